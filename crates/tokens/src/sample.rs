//! One conversation as token ids, with a mask of the trained ones.

use crate::{Error, Result, Tokenizer};

/// Token ids and a loss mask. Their properties are checked on construction: equal lengths, at least one target, and no
/// target without a token before it.
///
/// The mask marks *targets*, like PEFT's labels: `loss_mask[i]` says that the model should predict `input_ids[i]` from
/// `input_ids[..i]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    input_ids: Vec<u32>,
    loss_mask: Vec<bool>,
}

impl Sample {
    /// A sample from ids and their mask.
    ///
    /// # Errors
    /// [`Error::MaskLength`], [`Error::NothingSupervised`] or [`Error::FirstTokenSupervised`].
    pub fn new(input_ids: Vec<u32>, loss_mask: Vec<bool>) -> Result<Self> {
        if input_ids.len() != loss_mask.len() {
            return Err(Error::MaskLength { ids: input_ids.len(), mask: loss_mask.len() });
        }
        if loss_mask.first() == Some(&true) {
            return Err(Error::FirstTokenSupervised);
        }
        if !loss_mask.contains(&true) {
            return Err(Error::NothingSupervised);
        }
        Ok(Self { input_ids, loss_mask })
    }

    /// A sample from a prompt, which is given, and an answer, which is trained or scored.
    ///
    /// # Errors
    /// [`Error::FirstTokenSupervised`] for an empty prompt, [`Error::NothingSupervised`] for an empty answer.
    pub fn from_prompt(prompt: &[u32], answer: &[u32]) -> Result<Self> {
        let mut loss_mask = vec![false; prompt.len()];
        loss_mask.resize(prompt.len() + answer.len(), true);
        Self::new([prompt, answer].concat(), loss_mask)
    }

    /// A sample in which every token except the first is trained or scored: for perplexity, and for training without
    /// turns.
    ///
    /// # Errors
    /// [`Error::NothingSupervised`] for fewer than two ids.
    pub fn from_text(input_ids: Vec<u32>) -> Result<Self> {
        let mut loss_mask = vec![true; input_ids.len()];
        if let Some(first) = loss_mask.first_mut() {
            *first = false;
        }
        Self::new(input_ids, loss_mask)
    }

    /// A plain text for continued pre-training: bos if the tokenizer adds one, the text, and the tokenizer's end token.
    /// Every token but the first is trained.
    ///
    /// A text of more than `length` tokens is cut into pieces of `length` tokens. Each piece begins with the last token
    /// of the piece before it, which is not trained there, so that every token is trained once. Only the last piece ends
    /// with the end token.
    ///
    /// # Errors
    /// [`Error::NoEndToken`]; [`Error::Encode`] as [`Tokenizer::encode_text`]; [`Error::NothingSupervised`] for a text
    /// without tokens; [`Error::TooLong`] if `length` is below 2, the shortest piece.
    pub fn of_text(tokenizer: &Tokenizer, text: &str, length: usize) -> Result<Vec<Self>> {
        let end = tokenizer.eos_token().ok_or(Error::NoEndToken)?;
        let bos = tokenizer.bos_id().filter(|_| tokenizer.add_bos());
        let ids: Vec<u32> = bos.into_iter().chain(tokenizer.encode_text(text)?).chain([end]).collect();
        Self::pieces(ids, length)
    }

    /// The pieces of a sequence of ids, as in [`of_text`](Self::of_text).
    ///
    /// # Errors
    /// [`Error::NothingSupervised`] for fewer than two ids; [`Error::TooLong`] if `length` is below 2.
    pub fn pieces(ids: Vec<u32>, length: usize) -> Result<Vec<Self>> {
        if ids.len() <= length {
            return Ok(vec![Self::from_text(ids)?]);
        }
        let Some(step) = length.checked_sub(1).filter(|step| *step > 0) else {
            return Err(Error::TooLong { length: ids.len(), context: length });
        };
        let starts = (0..ids.len() - 1).step_by(step);
        starts.map(|start| Self::from_text(ids[start..ids.len().min(start + length)].to_vec())).collect()
    }

    /// The ids.
    pub fn input_ids(&self) -> &[u32] {
        &self.input_ids
    }

    /// For each id, whether it is a target.
    pub fn loss_mask(&self) -> &[bool] {
        &self.loss_mask
    }

    /// The number of ids.
    #[allow(clippy::len_without_is_empty, reason = "a sample is never empty")]
    pub fn len(&self) -> usize {
        self.input_ids.len()
    }

    /// The number of targets.
    pub fn supervised(&self) -> usize {
        self.loss_mask.iter().filter(|masked| **masked).count()
    }

    /// Refuses a sample that does not fit in a context. Samples are never truncated silently.
    ///
    /// # Errors
    /// [`Error::TooLong`], with both lengths.
    pub fn check_length(&self, context: usize) -> Result<()> {
        if self.len() > context {
            return Err(Error::TooLong { length: self.len(), context });
        }
        Ok(())
    }

    /// The ids that must be computed: those before the last target.
    pub(crate) fn computed(&self) -> &[u32] {
        let last = self.loss_mask.iter().rposition(|masked| *masked).unwrap_or(0);
        self.input_ids.get(..last).unwrap_or_default()
    }

    /// The target that the token at a position predicts.
    pub(crate) fn target_after(&self, position: usize) -> Option<u32> {
        let next = position + 1;
        self.loss_mask.get(next).filter(|masked| **masked)?;
        self.input_ids.get(next).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_that_teaches_nothing_is_refused() {
        let refused = |ids: &[u32], mask: &[bool]| Sample::new(ids.to_vec(), mask.to_vec()).unwrap_err();
        assert!(matches!(refused(&[1, 2], &[false]), Error::MaskLength { ids: 2, mask: 1 }));
        assert!(matches!(refused(&[], &[]), Error::NothingSupervised));
        assert!(matches!(refused(&[1, 2], &[false, false]), Error::NothingSupervised));
        assert!(matches!(refused(&[1, 2], &[true, false]), Error::FirstTokenSupervised));
        assert!(matches!(Sample::from_text(vec![1]), Err(Error::NothingSupervised)));
        assert!(matches!(Sample::from_prompt(&[], &[1]), Err(Error::FirstTokenSupervised)));
        assert!(matches!(Sample::from_prompt(&[1], &[]), Err(Error::NothingSupervised)));
    }

    #[test]
    fn a_sample_that_does_not_fit_names_both_lengths() {
        let sample = Sample::from_prompt(&[1, 2], &[3, 4]).unwrap();
        assert!(sample.check_length(4).is_ok());
        let error = sample.check_length(3).unwrap_err();
        assert!(matches!(error, Error::TooLong { length: 4, context: 3 }));
        assert!(error.to_string().contains("4 tokens does not fit a context of 3"));
    }

    #[test]
    fn pieces_train_every_token_once() {
        for (count, length) in [(2u32, 2), (2, 5), (5, 5), (6, 5), (9, 5), (10, 5), (13, 5), (40, 2), (41, 3)] {
            let pieces = Sample::pieces((0..count).collect(), length).unwrap();
            let trained = pieces.iter().flat_map(|piece| {
                let marked = piece.input_ids().iter().zip(piece.loss_mask());
                marked.filter(|(_, trained)| **trained).map(|(id, _)| *id).collect::<Vec<_>>()
            });
            assert!(trained.eq(1..count), "{count} tokens in pieces of {length}");
            assert!(pieces.iter().all(|piece| (2..=length).contains(&piece.len())));
            // All but the last are full.
            assert!(pieces.iter().rev().skip(1).all(|piece| piece.len() == length));
        }
        assert!(matches!(Sample::pieces(vec![1, 2], 1), Err(Error::TooLong { length: 2, context: 1 })));
    }

    #[test]
    fn what_follows_the_last_target_is_not_computed() {
        let sample = Sample::new(vec![1, 2, 3, 4], vec![false, true, true, false]).unwrap();
        assert_eq!((sample.computed(), sample.supervised(), sample.len()), (&[1, 2][..], 2, 4));
        assert_eq!([0, 1, 2, 3, 9].map(|at| sample.target_after(at)), [Some(2), Some(3), None, None, None]);
    }
}
