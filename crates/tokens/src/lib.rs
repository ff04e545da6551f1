//! Tokenizer and chat template: conversations to masked samples to packed batches.
//!
//! ```text
//! Message ──ChatTemplate──▶ Sample ──Batch::pack──▶ Batch      training, scoring
//! Message ──ChatTemplate──▶ prompt ids ─ ─ ─ ─ ─ ─▶ TextStream generation
//! ```
//!
//! [`Tokenizer`] cuts text into ids. [`ChatTemplate`] renders a conversation, to train on or to answer, and knows while it
//! renders which ids are learnt: nothing here ever searches a token sequence for markers. [`Batch`] lays samples out as one
//! sequence in which shared prefixes are computed once.
//!
//! Three things hold for everything that this crate gives, or it gives an error: text in a message never becomes a control
//! token; the generation prompt is a prefix of the training sample; a trained turn ends in a token that generation stops on.
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
//! // Generation starts where training did, and what a person typed is text.
//! let prompt = template.prompt(&tokenizer, &[question])?;
//! assert!(samples[0].input_ids().starts_with(&prompt));
//! let stop = tokenizer.control("<|im_end|>").unwrap();
//! assert_eq!(prompt.iter().filter(|id| **id == stop).count(), 2, "one a turn, none from the text");
//!
//! // The question is computed once, and the answers branch off.
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
pub use template::{ChatTemplate, MistralVersion};
pub use tokenizer::{TextStream, Tokenizer};
