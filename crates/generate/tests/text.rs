//! Streams, stop strings and sessions with a tiny random model whose tokens are bytes.

mod common;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use common::{IM_END, Tiny};
use foehn_generate::{
    Error, GenerateConfig, Generation, SamplingConfig, Session, SessionConfig, StopReason, generate, stream,
};
use foehn_record::{Message, Role};

fn sampled(max_new_tokens: usize, stop: &[&str]) -> GenerateConfig {
    let sampling = SamplingConfig { temperature: 1.0, seed: 11, ..SamplingConfig::default() };
    GenerateConfig { max_new_tokens, stop: stop.iter().map(|stop| (*stop).to_owned()).collect(), sampling, exact: true }
}

const GO_ON: ControlFlow<()> = ControlFlow::Continue(());

fn session(tiny: &Tiny, config: GenerateConfig, context: usize, messages: Vec<Message>) -> Session {
    let (tokenizer, template) = (Arc::clone(&tiny.tokenizer), Arc::clone(&tiny.template));
    let config = SessionConfig { generate: config, context, forget: false };
    Session::new(tiny.model.clone(), tokenizer, template, config, messages).unwrap()
}

fn prompts(tiny: &Tiny) -> Vec<Vec<u32>> {
    ["Ah", "What modality is: 'a bell rang'?", "é"].map(|text| tiny.tokenizer.encode_text(text).unwrap()).to_vec()
}

/// Generates, and checks that the streamed text is the text of the result.
fn run(tiny: &Tiny, prompts: &[Vec<u32>], config: &GenerateConfig) -> Vec<Generation> {
    let mut streamed: BTreeMap<usize, String> = BTreeMap::new();
    let mut on_text = |sequence, piece: &str| {
        assert!(!piece.is_empty());
        *streamed.entry(sequence).or_default() += piece;
        ControlFlow::Continue(())
    };
    let generations = stream(&tiny.model, &tiny.tokenizer, prompts, config, &mut on_text).unwrap();
    assert_eq!(generate(&tiny.model, &tiny.tokenizer, prompts, config).unwrap(), generations);
    for (sequence, (generation, prompt)) in generations.iter().zip(prompts).enumerate() {
        assert_eq!(generation.text, streamed.get(&sequence).cloned().unwrap_or_default());
        assert_eq!(&generation.input_ids, prompt);
    }
    generations
}

#[test]
fn text_is_what_the_ids_say() {
    // Nearly uniform over 256 bytes: most are not UTF-8, and many characters are incomplete.
    let tiny = Tiny::new(1, 0.1);
    let generations = run(&tiny, &prompts(&tiny), &sampled(120, &[]));
    for generation in &generations {
        assert_eq!(generation.text, tiny.tokenizer.decode(&generation.output_ids, true));
        assert_eq!(generation.stop == StopReason::Eos, generation.output_ids.last() == Some(&IM_END));
        assert_eq!(generation.stop == StopReason::MaxTokens, generation.output_ids.len() == 120);
    }
}

#[test]
fn stop_strings_cut_the_text_and_end_the_sequence() {
    let tiny = Tiny::new(1, 0.1);
    let free = run(&tiny, &prompts(&tiny), &sampled(120, &[])).remove(1);
    // Two characters from the middle of the text. With bytes as tokens, the stop string extends over several tokens.
    let (at, _) = free.text.char_indices().nth(20).unwrap();
    let stop: String = free.text[at..].chars().take(2).collect();
    let cut = run(&tiny, &prompts(&tiny), &sampled(120, &[&stop, "never in the text"])).remove(1);
    assert_eq!(cut.stop, StopReason::StopString);
    assert_eq!(cut.text, free.text[..free.text.find(&stop).unwrap()]);
    assert_eq!(cut.output_ids, free.output_ids[..cut.output_ids.len()]);
    assert!(cut.output_ids.len() < free.output_ids.len());
}

#[test]
fn a_batch_is_its_prompts_alone() {
    let tiny = Tiny::new(2, 1.0);
    let config = GenerateConfig { max_new_tokens: 40, ..GenerateConfig::default() };
    let prompts = prompts(&tiny);
    let alone: Vec<Generation> =
        prompts.iter().flat_map(|prompt| run(&tiny, std::slice::from_ref(prompt), &config)).collect();
    assert_eq!(run(&tiny, &prompts, &config), alone);
    assert_eq!(run(&tiny, &[], &config), []);
}

#[test]
fn a_session_answers_as_if_nothing_were_cached() {
    let tiny = Tiny::new(3, 0.5);
    let config = sampled(24, &[]);
    let system = Message::new(Role::System, "Be brief.");
    let mut session = session(&tiny, config.clone(), 400, vec![system]);
    for (turn, question) in ["Hi there", "What is it?", "Why?"].into_iter().enumerate() {
        let mut messages = session.messages().to_vec();
        let mut streamed = String::new();
        let answer = session
            .say(question, &mut |piece| {
                streamed += piece;
                GO_ON
            })
            .unwrap();
        assert_eq!(streamed, answer.text);
        // Stop tokens are rare here, so every turn except the first shares at least the last turn's prompt.
        assert!(turn == 0 || session.reused() > 40, "turn {turn}: {} tokens reused", session.reused());

        messages.push(Message::new(Role::User, question));
        let prompt = tiny.template.prompt(&tiny.tokenizer, &messages).unwrap();
        let mut fresh = config.clone();
        fresh.sampling.stream = (turn as u64) << 32;
        assert_eq!(run(&tiny, &[prompt], &fresh), std::slice::from_ref(&answer));
        messages.push(Message::new(Role::Assistant, answer.text.trim()));
        assert_eq!(session.messages(), messages);
    }
}

#[test]
fn a_session_takes_back_what_it_could_not_answer() {
    let tiny = Tiny::new(3, 0.5);
    let mut session = session(&tiny, sampled(8, &[]), 128, Vec::new());
    let long = "x".repeat(200);
    let error = session.say(&long, &mut |_| GO_ON).unwrap_err();
    assert!(matches!(error, Error::PromptTooLong { sequence: 0, context: 128, .. }), "{error}");
    assert_eq!(session.messages(), []);
    assert!(matches!(session.say("hm", &mut |_| GO_ON), Ok(answer) if !answer.output_ids.is_empty()));
    assert_eq!(session.messages().len(), 2);
}

/// What is left of a conversation that outgrew its room is a conversation: it begins with the system prompt and goes on
/// with a question, and its answers are those of the same messages in a session of their own.
#[test]
fn a_session_may_forget_its_oldest_turns() {
    let tiny = Tiny::new(3, 0.5);
    let (tokenizer, template) = (Arc::clone(&tiny.tokenizer), Arc::clone(&tiny.template));
    let config = SessionConfig {
        generate: GenerateConfig { max_new_tokens: 16, exact: true, ..GenerateConfig::default() },
        context: 220,
        forget: true,
    };
    let system = Message::system("Be brief.");
    let mut session = Session::new(tiny.model.clone(), tokenizer, template, config, vec![system.clone()]).unwrap();
    for turn in 0..8 {
        let question = format!("Question {turn}?");
        let answer = session.say(&question, &mut |_| GO_ON).unwrap();
        let messages = session.messages();
        assert_eq!(messages[0], system);
        assert!(messages[1].role == Role::User && messages[messages.len() - 2].content == question);
        assert_eq!(messages.len() - 1 + session.forgotten(), 2 * (turn + 1));
        let prompt = tiny.template.prompt(&tiny.tokenizer, &messages[..messages.len() - 1]).unwrap();
        assert!(prompt.len() + 16 <= 220);
        let alone = generate(
            &tiny.model,
            &tiny.tokenizer,
            &[prompt],
            &GenerateConfig { max_new_tokens: 16, exact: true, ..GenerateConfig::default() },
        );
        assert_eq!(alone.unwrap()[0].output_ids, answer.output_ids);
    }
    assert!(session.forgotten() > 0);
    // A question that is too long by itself is an error, and the conversation stays.
    let before = session.messages().to_vec();
    assert!(matches!(session.say(&"x".repeat(300), &mut |_| GO_ON), Err(Error::PromptTooLong { .. })));
    assert_eq!(session.messages(), before);
}

#[test]
fn whoever_receives_the_text_can_end_it() {
    let tiny = Tiny::new(1, 0.1);
    let free = run(&tiny, &prompts(&tiny), &sampled(120, &[]));
    let mut pieces = 0;
    let mut second_ends = |sequence: usize, _: &str| {
        pieces += usize::from(sequence == 1);
        if sequence == 1 && pieces == 5 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let found = stream(&tiny.model, &tiny.tokenizer, &prompts(&tiny), &sampled(120, &[]), &mut second_ends).unwrap();
    assert_eq!((&found[0], &found[2]), (&free[0], &free[2]));
    assert_eq!((found[1].stop, pieces), (StopReason::Cancelled, 5));
    assert!(!found[1].text.is_empty() && found[1].text.len() < free[1].text.len());
    assert!(free[1].text.starts_with(&found[1].text) && free[1].output_ids.starts_with(&found[1].output_ids));

    // A conversation continues from earlier messages.
    let mut session = session(&tiny, sampled(24, &[]), 400, Vec::new());
    let answer = session.say("Hi there", &mut |_| ControlFlow::Break(())).unwrap();
    assert_eq!(answer.stop, StopReason::Cancelled);
    assert_eq!(session.messages()[1].content, answer.text.trim());
    assert!(session.say("Why?", &mut |_| GO_ON).is_ok());
}

#[test]
fn a_session_can_be_kept_and_sent_to_another_thread() {
    fn is_kept<T: Send + 'static>(_: &T) {}
    let tiny = Tiny::new(3, 0.5);
    is_kept(&session(&tiny, sampled(8, &[]), 128, Vec::new()));
}

#[test]
fn broken_weights_are_an_error() {
    // Sums over such a head overflow. A file with NaN could not be loaded.
    let tiny = Tiny::with_head(3, 1.0, f32::MAX);
    let config = GenerateConfig::default();
    let error = generate(&tiny.model, &tiny.tokenizer, &prompts(&tiny), &config).unwrap_err();
    assert!(matches!(error, Error::NonFiniteLogit { sequence: 0, length: 2, .. }), "{error}");
}
