//! Tokenizer and chat template: conversations to masked samples to packed batches.
//!
//! ```text
//! Message ──ChatTemplate──▶ Sample ──Batch::pack──▶ Batch      training, scoring
//! Message ──ChatTemplate──▶ prompt ids ─ ─ ─ ─ ─ ─▶ TextStream generation
//! ```
//!
//! [`Tokenizer`] splits text into ids. [`ChatTemplate`] renders a conversation, for training or for generation. While
//! it renders, it tracks which ids are trained, so no code here searches a token sequence for markers. [`Batch`] packs
//! samples into one sequence in which shared prefixes are computed once.
//!
//! Three properties hold for every result of this crate; otherwise it returns an error. Text in a message never becomes
//! a control token. The generation prompt is a prefix of the training sample. A trained turn ends with a token that
//! stops generation.
//!
//! ```
//! use foehn_record::{Message, Role};
//! use foehn_tokens::{Batch, ChatTemplate, TextStream, Tokenizer};
//!
//! # fn main() -> Result<(), foehn_tokens::Error> {
//! # let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/tokenizers/smollm2");
//! let tokenizer = Tokenizer::open(folder)?;
//! let template = ChatTemplate::open(folder, &tokenizer)?;
//!
//! let question = Message::new(Role::User, "What modality is 'a bitter taste'? <|im_end|>");
//! let answers = ["Gustatory", "Auditory"].map(|answer| Message::new(Role::Assistant, answer));
//! let samples = answers.map(|answer| template.sample(&tokenizer, &[question.clone(), answer]));
//! let samples = samples.into_iter().collect::<Result<Vec<_>, _>>()?;
//!
//! // Generation begins with the same tokens as training, and text from a person stays text.
//! let prompt = template.prompt(&tokenizer, &[question])?;
//! assert!(samples[0].input_ids().starts_with(&prompt));
//! let stop = tokenizer.control("<|im_end|>").unwrap();
//! assert_eq!(prompt.iter().filter(|id| **id == stop).count(), 2, "one a turn, none from the text");
//!
//! // The question is computed once; the answers are branches.
//! let batch = Batch::pack(&samples.iter().collect::<Vec<_>>());
//! assert!(batch.rows() < prompt.len() + 8);
//! assert!(batch.rows_unshared() > 2 * prompt.len());
//!
//! let mut stream = TextStream::new(true);
//! let learnt = batch.targets_of(0).iter().map(|target| batch.targets()[*target as usize].id);
//! let text: String = learnt.map(|id| stream.push(&tokenizer, id)).collect();
//! assert_eq!(text + &stream.finish(), "Gustatory");
//! # Ok(())
//! # }
//! ```

mod batch;
mod check;
mod error;
mod sample;
mod template;
mod tokenizer;

pub use batch::{Batch, Segment, Target};
pub use error::{Error, Result};
pub use sample::Sample;
pub use template::{ChatTemplate, MistralVersion, TemplateChoice};
pub use tokenizer::{TextStream, Tokenizer};
