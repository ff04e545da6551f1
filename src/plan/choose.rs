//! Settings that fit in a given memory.

use std::fmt;

use foehn_finetune::TrainingConfig;
use foehn_mistral::Base;
use foehn_tokens::Sample;

use super::work::Work;
use super::{Network, Outline, PlanError, memory};

/// Micro-batches of fewer tokens would only be slower.
const FEWEST_ROWS: usize = 64;

/// The storage formats from the largest to the smallest.
const BASES: [Base; 4] = [Base::F32, Base::Bf16, Base::Q8_0, Base::Q4K];

/// Settings that fit, and how they differ from those that were given.
#[derive(Clone, Debug, PartialEq)]
pub struct Choice {
    /// The storage format of the base.
    pub base: Base,
    /// The training settings.
    pub settings: TrainingConfig,
    /// The predicted peak, in bytes.
    pub peak: usize,
    /// What was changed; empty if the given settings fit.
    pub changes: Vec<Change>,
}

/// A setting that was changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The key in a recipe.
    pub key: &'static str,
    /// The given value.
    pub from: String,
    /// The chosen value.
    pub to: String,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let quote = if self.key == "base" { "\"" } else { "" };
        write!(f, "{} = {quote}{}{quote}", self.key, self.to)
    }
}

impl Choice {
    /// The first of these that fits in `room` bytes: the given settings; fewer `micro_batch_rows`; `recompute`, with as
    /// many rows as fit; a smaller `base`, with as many rows as fit.
    ///
    /// # Errors
    /// [`PlanError::TooLittle`] with the peak of the smallest run, and the errors of [`Plan::of`](super::Plan::of).
    pub fn within(
        room: usize,
        outline: &Outline<'_>,
        base: Base,
        settings: &TrainingConfig,
    ) -> Result<Self, PlanError> {
        let mut smallest: Option<Self> = None;
        let smaller = BASES.into_iter().skip_while(|&other| base != Base::Stored && other != base);
        let smaller = smaller.filter(|&other| other != base && is_smaller(other, base));
        for base_tried in std::iter::once(base).chain(smaller) {
            for recompute in if settings.recompute { vec![true] } else { vec![false, true] } {
                let mut tried = TrainingConfig { recompute, ..settings.clone() };
                for rows in rows_to_try(outline, settings.micro_batch_rows) {
                    tried.micro_batch_rows = rows;
                    let network = Network::of(outline, base_tried, &tried)?;
                    let peak = memory::predict(outline, &network, &Work::of(outline.training, &tried), &tried)?.peak;
                    let changes = changes((base, settings), (base_tried, &tried));
                    let choice = Self { base: base_tried, settings: tried.clone(), peak, changes };
                    if peak <= room {
                        return Ok(choice);
                    }
                    if smallest.as_ref().is_none_or(|smallest| peak < smallest.peak) {
                        smallest = Some(choice);
                    }
                }
            }
        }
        let smallest = smallest.expect("the given settings were tried");
        Err(PlanError::TooLittle { room, smallest: smallest.peak, settings: smallest.said() })
    }

    /// The chosen values of the settings that were changed, as a recipe writes them.
    pub fn said(&self) -> String {
        let said: Vec<String> = self.changes.iter().map(ToString::to_string).collect();
        if said.is_empty() { "with the given settings".into() } else { said.join(", ") }
    }
}

/// Whether a format takes less memory than another one. What a checkpoint stores is not known here; a plan of the
/// smaller format shows it.
fn is_smaller(a: Base, than: Base) -> bool {
    let place = |base: Base| BASES.iter().position(|&other| other == base);
    match (place(a), place(than)) {
        (Some(a), Some(than)) => a > than,
        (Some(a), None) => than == Base::Stored && a > 0,
        _ => false,
    }
}

/// The given number of rows and its halves. A sample is never split, so fewer rows than the longest one has change
/// nothing.
fn rows_to_try(outline: &Outline<'_>, given: usize) -> Vec<usize> {
    let longest = outline.training.samples().iter().map(Sample::len).max().unwrap_or(0);
    let fewest = longest.max(FEWEST_ROWS);
    let mut rows = vec![given];
    while let Some(&last) = rows.last()
        && last / 2 >= fewest
    {
        rows.push(last / 2);
    }
    rows
}

fn changes((base, given): (Base, &TrainingConfig), (to, chosen): (Base, &TrainingConfig)) -> Vec<Change> {
    let rows = |settings: &TrainingConfig| settings.micro_batch_rows.to_string();
    let all = [
        ("micro_batch_rows", rows(given), rows(chosen)),
        ("recompute", given.recompute.to_string(), chosen.recompute.to_string()),
        ("base", base.to_string(), to.to_string()),
    ];
    all.into_iter().filter(|(_, from, to)| from != to).map(|(key, from, to)| Change { key, from, to }).collect()
}

#[cfg(test)]
mod tests {
    use foehn_finetune::Dataset;
    use foehn_mistral::MistralConfig;

    use super::*;

    const CONFIG: &str = r#"{"architectures":["MistralForCausalLM"],"model_type":"mistral","vocab_size":1024,
        "hidden_size":512,"intermediate_size":1024,"num_hidden_layers":8,"num_attention_heads":8,
        "num_key_value_heads":2,"head_dim":64,"hidden_act":"silu","max_position_embeddings":4096,"rms_norm_eps":1e-5,
        "rope_theta":1e4,"tie_word_embeddings":true}"#;

    #[test]
    fn rows_are_lowered_first_then_values_are_computed_again_then_the_base_shrinks() {
        let config = MistralConfig::from_json(CONFIG).unwrap();
        let sample = |seed: u32| Sample::from_text((0..200).map(|i| (i * 7 + seed) % 1000).collect()).unwrap();
        let named = (0..16).map(|i| (i.to_string(), sample(i))).collect();
        let training = Dataset::from_samples(named, &(0..1024).collect::<Vec<_>>(), 1024).unwrap();
        let (config, training) = (&config, &training);
        let outline = Outline { config, checkpoint: None, training, validation: None, program: 0, saves: false };
        let settings = TrainingConfig { micro_batch_rows: 2048, epochs: 1, ..TrainingConfig::default() };
        let within = |room| Choice::within(room, &outline, Base::F32, &settings);

        let whole = within(usize::MAX).unwrap();
        assert_eq!((whole.changes.as_slice(), &whole.settings, whole.base), (&[][..], &settings, Base::F32));
        let mut last = whole;
        let mut seen = Vec::new();
        let error = loop {
            match within(last.peak - 1) {
                Ok(next) => {
                    assert!(next.peak < last.peak);
                    let keys: Vec<&str> = next.changes.iter().map(|change| change.key).collect();
                    seen.push((keys, place(next.base), next.settings.recompute, next.settings.micro_batch_rows));
                    last = next;
                }
                Err(error) => break error,
            }
        };
        assert_eq!(seen[0], (vec!["micro_batch_rows"], place(Base::F32), false, 1024));
        let in_order = |a: &(_, usize, bool, usize), b: &(_, usize, bool, usize)| {
            (a.1, a.2, usize::MAX - a.3) < (b.1, b.2, usize::MAX - b.3)
        };
        assert!(seen.windows(2).all(|pair| in_order(&pair[0], &pair[1])), "{seen:?}");
        assert_eq!((last.base, last.settings.recompute), (Base::Q4K, true), "{seen:?}");
        // A sample has 200 tokens: below that nothing would change.
        assert_eq!(last.settings.micro_batch_rows, 256);

        let PlanError::TooLittle { room, smallest, .. } = &error else { panic!("{error}") };
        assert_eq!((*room, *smallest), (last.peak - 1, last.peak));
        let said = error.to_string();
        assert!(said.contains("micro_batch_rows = 256, recompute = true, base = \"q4_k\""), "{said}");
    }

    fn place(base: Base) -> usize {
        BASES.iter().position(|&other| other == base).unwrap()
    }
}
