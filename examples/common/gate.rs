//! What a trainer would see of clean records, and whether it could learn from them.

use anyhow::{Result, bail};
use foehn::corpus::Record;
use foehn::tokens::{ChatTemplate, Sample, Tokenizer};

/// How many records are shown, and how many faults are named.
const SHOWN: usize = 2;
const NAMED: usize = 10;

/// Renders records through one template, and remembers those that could not be trained on.
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
    /// The gate of a model's template, for samples of at most so many tokens.
    pub fn open(model: &str, max_length: usize) -> Result<Self> {
        let (tokenizer, template) = foehn::load_text(model, &mut super::show_fetch())?;
        let (faults, faulty, records, tokens, trained, longest) = (Vec::new(), 0, 0, 0, 0, 0);
        Ok(Self { tokenizer, template, max_length, faults, faulty, records, tokens, trained, longest })
    }

    /// Renders a record, and shows it if it is among the first.
    pub fn pass(&mut self, record: &Record, line: u64, show: bool) {
        self.records += 1;
        let name = record.id.clone().unwrap_or_else(|| format!("on line {line}"));
        let fault = match self.template.sample(&self.tokenizer, &record.messages) {
            Err(error) => Some(error.to_string()),
            Ok(sample) => {
                self.tokens += sample.len();
                self.trained += sample.supervised();
                self.longest = self.longest.max(sample.len());
                if show && self.records <= SHOWN {
                    super::print_marked(&name, record, &sample, &self.tokenizer);
                }
                fault(&sample, record, &self.tokenizer, self.max_length)
            }
        };
        if let Some(fault) = fault {
            self.faulty += 1;
            if self.faults.len() < NAMED {
                self.faults.push(format!("record {name}: {fault}"));
            }
        }
    }

    /// Says what went through, and fails where not all of it could be trained on.
    pub fn verdict(&self) -> Result<()> {
        let Self { records, tokens, trained, longest, .. } = self;
        eprintln!("checked {records} records: {tokens} tokens, {trained} of them trained, the longest {longest}");
        if self.faulty > 0 {
            let more = self.faulty - self.faults.len();
            let more = if more > 0 { format!("\n  and {more} more") } else { String::new() };
            bail!("{} of {records} records cannot be trained on:\n  {}{more}", self.faulty, self.faults.join("\n  "));
        }
        Ok(())
    }
}

/// What is wrong with a rendered sample. It looks at ids and mask alone: the template's own promises are not taken for granted.
pub fn fault(sample: &Sample, record: &Record, tokenizer: &Tokenizer, max_length: usize) -> Option<String> {
    let (ids, mask) = (sample.input_ids(), sample.loss_mask());
    if ids.len() > max_length {
        return Some(format!("{} tokens would be cut to {max_length}: split it, or raise --max-length", ids.len()));
    }
    if let (Some(bos), [first, second, ..]) = (tokenizer.bos_id(), ids)
        && *first == bos
        && *second == bos
    {
        return Some("it begins with two BOS tokens: the template and the tokenizer both add one".to_owned());
    }
    if !mask.contains(&true) {
        return Some("no token is trained".to_owned());
    }
    if mask.iter().skip(1).all(|trained| *trained) && record.messages.len() > 1 {
        return Some("every token is trained, the prompt's too".to_owned());
    }
    let turns = record.messages.iter().filter(|message| message.is_trained()).count();
    let ends = (0..ids.len()).filter(|&at| mask[at] && tokenizer.eos_ids().contains(&ids[at])).count();
    let cut = (0..ids.len()).find(|&at| {
        let is_last = mask[at] && !mask.get(at + 1).is_some_and(|next| *next);
        is_last && !tokenizer.eos_ids().contains(&ids[at])
    });
    match cut {
        Some(at) => Some(format!("the stop token after token {} is not trained: answers would never end", at + 1)),
        None if ends < turns => Some(format!("{turns} turns are trained, but only {ends} stop tokens")),
        None => None,
    }
}
