//! Checks whether training on a sample teaches what its conversation says.

use foehn_record::Message;

use crate::{Error, Result, Sample, Tokenizer};

impl Sample {
    /// Refuses a sample of a conversation in these cases: it is longer than `context` tokens, it begins with two bos
    /// tokens, it trains on its prompt, or the end of a trained turn has no trained stop token.
    ///
    /// It examines only the ids and the mask. So it also finds errors that a [`ChatTemplate`](crate::ChatTemplate)
    /// should have refused, and it can check samples from other programs.
    ///
    /// # Errors
    /// [`Error::TooLong`], [`Error::DoubledBos`], [`Error::PromptSupervised`], [`Error::EndUntrained`] or
    /// [`Error::StopsMissing`].
    pub fn check(&self, tokenizer: &Tokenizer, messages: &[Message], context: usize) -> Result<()> {
        self.check_length(context)?;
        let (ids, mask) = (self.input_ids(), self.loss_mask());
        // Two bos tokens with blank text between them count as two.
        let is_bos = |id: &&u32| tokenizer.bos_id() == Some(**id);
        let is_blank = |id: &u32| !tokenizer.is_control(*id) && tokenizer.decode(&[*id], false).trim().is_empty();
        let start = ids.iter().take_while(|id| is_bos(id) || is_blank(id));
        if start.filter(is_bos).count() > 1 {
            return Err(Error::DoubledBos);
        }
        if mask.iter().skip(1).all(|trained| *trained) && messages.len() > 1 {
            return Err(Error::PromptSupervised);
        }
        let is_stop = |at: usize| tokenizer.eos_ids().contains(&ids[at]);
        let trained = || (0..ids.len()).filter(|at| mask[*at]);
        if let Some(end) = trained().find(|at| !is_stop(*at) && mask.get(at + 1) != Some(&true)) {
            return Err(Error::EndUntrained { token: end, stop_tokens: tokenizer.eos_ids().to_vec() });
        }
        let turns = messages.iter().filter(|message| message.is_trained()).count();
        let stops = trained().filter(|at| is_stop(*at)).count();
        if stops < turns {
            return Err(Error::StopsMissing { turns, stops });
        }
        Ok(())
    }
}
