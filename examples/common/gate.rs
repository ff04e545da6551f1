//! Renders clean records as training samples, and checks that they can be trained on.

use anyhow::{Result, bail};
use foehn::corpus::Record;
use foehn::tokens::{ChatTemplate, Sample, TemplateChoice, Tokenizer};

/// The number of records that are shown, and of faults that are listed.
const SHOWN: usize = 2;
const NAMED: usize = 10;

/// Renders records with one template, and collects those that cannot be trained on.
pub struct Gate {
    tokenizer: Tokenizer,
    template: ChatTemplate,
    max_length: usize,
    faults: Vec<String>,
    faulty: usize,
    records: usize,
    tokens: usize,
    trained: usize,
    longest: usize,
}

impl Gate {
    /// Uses the template of a model, or another one, for samples of at most `max_length` tokens.
    pub fn open(model: &str, template: Option<&TemplateChoice>, max_length: usize) -> Result<Self> {
        let (tokenizer, template) = foehn::load_text_for_text(model, template, &mut super::show_fetch())?;
        let (faults, faulty, records, tokens, trained, longest) = (Vec::new(), 0, 0, 0, 0, 0);
        Ok(Self { tokenizer, template, max_length, faults, faulty, records, tokens, trained, longest })
    }

    /// Renders a record, and shows it if it is among the first.
    pub fn pass(&mut self, record: &Record, line: u64, show: bool) {
        self.records += 1;
        let name = record.id.clone().unwrap_or_else(|| format!("on line {line}"));
        let samples = match record.plain_text() {
            Some(text) => Sample::of_text(&self.tokenizer, text, self.max_length),
            None => self.template.sample(&self.tokenizer, record).map(|sample| vec![sample]),
        };
        let checked = samples.and_then(|samples| {
            for sample in &samples {
                self.tokens += sample.len();
                self.trained += sample.supervised();
                self.longest = self.longest.max(sample.len());
                if show && self.records <= SHOWN {
                    super::print_marked(&name, record, sample, &self.tokenizer);
                }
            }
            match samples.as_slice() {
                [sample] => sample.check(&self.tokenizer, &record.messages, self.max_length),
                // The pieces of a text; the last ends with the end token.
                _ => Ok(()),
            }
        });
        if let Err(fault) = checked {
            self.faulty += 1;
            if self.faults.len() < NAMED {
                self.faults.push(format!("record {name}: {:#}", anyhow::Error::from(fault)));
            }
        }
    }

    /// Prints the result, and fails if a record cannot be trained on.
    pub fn verdict(&self) -> Result<()> {
        let Self { records, tokens, trained, longest, .. } = self;
        super::terminal::tell!(
            "checked {records} records: {tokens} tokens, {trained} of them trained, the longest {longest}"
        );
        if self.faulty > 0 {
            let more = self.faulty - self.faults.len();
            let more = if more > 0 { format!("\n  and {more} more") } else { String::new() };
            bail!("{} of {records} records cannot be trained on:\n  {}{more}", self.faulty, self.faults.join("\n  "));
        }
        Ok(())
    }
}
