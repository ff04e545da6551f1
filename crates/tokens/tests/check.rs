//! The errors of `clean --check`, each from a template or a conversation that causes it.

mod common;

use common::{PAIRS, assistant, conversation, pair, user};
use foehn_record::Message;
use foehn_tokens::{ChatTemplate, Error, Sample};
use proptest::prelude::*;

/// In the style of Llama 2: `<s>` and `</s>` around every question with its answer.
const TURNS: &str = "{{ bos_token }}{% for m in messages %}\
                     {{ 'Q ' if m.role == 'user' }}{{ m.content }}{{ '</s>' if m.role == 'assistant' else ' A ' }}{% endfor %}";

/// The checked sample of a conversation.
fn checked(source: &str, messages: &[Message], context: usize) -> Result<Sample, Error> {
    let tokenizer = &pair("mini-legacy").tokenizer;
    let sample = ChatTemplate::jinja(source, tokenizer)?.sample(tokenizer, messages)?;
    sample.check(tokenizer, messages, context)?;
    Ok(sample)
}

#[track_caller]
fn refused(source: &str, messages: &[Message], expected: fn(&Error) -> bool) {
    let error = checked(source, messages, 1000).expect_err(source);
    assert!(expected(&error), "{source}: {error}");
}

#[test]
fn what_the_gate_fails_on() {
    let turn = [user("Is it red?"), assistant("Yes.")];
    checked(TURNS, &turn, 1000).unwrap();

    // A stop token that is missing, comes before the answer only, or belongs to another model.
    let untrained = |error: &Error| matches!(error, Error::StopTokenUntrained { index: 1, .. });
    refused(&TURNS.replace("</s>", ""), &turn, untrained);
    refused(&TURNS.replace(" A ", " A </s>").replace("'</s>' if", "'.' if"), &turn, untrained);
    refused(&TURNS.replace("</s>", "<|im_end|>"), &turn, untrained);

    // An empty mask.
    let mut unweighted = turn.clone();
    unweighted[1].weight = Some(0);
    refused(TURNS, &unweighted, |error| matches!(error, Error::NothingSupervised));

    // A mask of everything: the template leaves out the question.
    let answers = "{{ bos_token }}{% for m in messages if m.role == 'assistant' %}{{ m.content }}</s>{% endfor %}";
    refused(answers, &turn, |error| matches!(error, Error::PromptSupervised));

    // A second bos after white space, where it cannot be removed.
    for between in ["\n", " ", "  \n\n"] {
        refused(&TURNS.replace("{{ bos_token }}", &format!("<s>{between}<s>")), &turn, |error| {
            matches!(error, Error::DoubledBos)
        });
    }
}

#[test]
fn a_sample_is_cut_at_its_last_token() {
    let turn = [user("Is it red?"), assistant("Yes.")];
    let length = checked(TURNS, &turn, 1000).unwrap().len();
    assert_eq!(checked(TURNS, &turn, length).unwrap().len(), length);
    let error = checked(TURNS, &turn, length - 1).unwrap_err();
    assert!(matches!(error, Error::TooLong { length: found, context } if (found, context) == (length, length - 1)));
}

/// Samples that no template here renders, but that another program may have made.
#[test]
fn samples_from_elsewhere() {
    let tokenizer = &pair("mini-legacy").tokenizer;
    let (bos, stop) = (tokenizer.bos_id().unwrap(), tokenizer.eos_ids()[0]);
    let word = tokenizer.encode_text("red").unwrap()[0];
    let turns = [user("a"), assistant("b"), user("c"), assistant("d")];
    let check = |ids: &[u32], mask: &str, expected: fn(&Error) -> bool| {
        let mask: Vec<bool> = mask.bytes().map(|mark| mark == b'x').collect();
        let error = Sample::new(ids.to_vec(), mask).unwrap().check(tokenizer, &turns, 100).unwrap_err();
        assert!(expected(&error), "{ids:?}: {error}");
    };
    check(&[bos, bos, word, word, stop, word, word, stop], "...xx.xx", |e| matches!(e, Error::DoubledBos));
    check(&[bos, word, word, stop, word, word, stop], ".xxxxxx", |e| matches!(e, Error::PromptSupervised));
    check(&[bos, word, word, stop, word, word, stop], "..x..xx", |e| matches!(e, Error::EndUntrained { token: 2, .. }));
    check(&[bos, word, word, stop, word, word, stop], "..xx.x.", |e| matches!(e, Error::EndUntrained { token: 5, .. }));
    check(&[bos, word, word, word, word, word, stop], "..xxxxx", |e| {
        matches!(e, Error::StopsMissing { turns: 2, stops: 1 })
    });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    /// Samples from the templates of known models pass, whatever the messages say.
    #[test]
    fn sound_samples_pass(messages in conversation()) {
        for pair in PAIRS.iter() {
            let sample = pair.template.sample(&pair.tokenizer, &messages).unwrap();
            if let Err(error) = sample.check(&pair.tokenizer, &messages, sample.len()) {
                return Err(TestCaseError::fail(format!("{}: {error}: {messages:?}", pair.name)));
            }
        }
    }
}
