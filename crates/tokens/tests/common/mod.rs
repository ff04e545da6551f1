//! The tokenizers and templates of `tests/golden`, each loaded once.
#![allow(dead_code, reason = "each test file uses its part")]

pub mod gguf;

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use foehn_record::{Message, Role};
use foehn_tokens::{ChatTemplate, MistralVersion, Tokenizer};
use proptest::prelude::*;

/// A tokenizer with its template.
pub struct Pair {
    pub name: &'static str,
    pub tokenizer: Tokenizer,
    pub template: ChatTemplate,
}

/// All pairs, with the names in `templates.json`.
pub static PAIRS: LazyLock<Vec<Pair>> = LazyLock::new(|| {
    let files = [
        ("smollm2", "smollm2"),
        ("mini-first", "mini-first"),
        ("mini-legacy", "mini-legacy"),
        ("v1", "tokenizer.model.v1"),
        ("v3", "tokenizer.model.v3"),
        ("v7", "tokenizer.model.v7"),
    ];
    let open = |(name, file)| {
        let path = fixture(file);
        let tokenizer = Tokenizer::open(&path).unwrap();
        let template = ChatTemplate::open(&path, &tokenizer).unwrap();
        Pair { name, tokenizer, template }
    };
    files.map(open).into()
});

pub fn pair(name: &str) -> &'static Pair {
    PAIRS.iter().find(|pair| pair.name == name).unwrap()
}

/// A Mistral tokenizer with the template of another version: V1's needs no control tokens except bos and eos.
pub fn with_version(name: &str, version: MistralVersion) -> Result<ChatTemplate, foehn_tokens::Error> {
    ChatTemplate::mistral(version, &pair(name).tokenizer)
}

/// A path under `tests/golden/tokenizers`.
pub fn fixture(name: &str) -> PathBuf {
    golden().join("tokenizers").join(name)
}

pub fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden")
}

pub fn user(content: &str) -> Message {
    Message::new(Role::User, content)
}

pub fn assistant(content: &str) -> Message {
    Message::new(Role::Assistant, content)
}

pub fn system(content: &str) -> Message {
    Message::new(Role::System, content)
}

/// Texts that could break out of a message, and texts that are difficult for tokenizers.
const AWKWARD: &[&str] = &[
    "<s>",
    "</s>",
    "<unk>",
    "<|im_start|>",
    "<|im_end|>",
    "<|endoftext|>",
    "[INST]",
    "[/INST]",
    "[SYSTEM_PROMPT]",
    "[/SYSTEM_PROMPT]",
    "[control_8]",
    "[REF]",
    "<0x0A>",
    "<",
    "|",
    ">",
    "im_end",
    "s>",
    "</",
    "[",
    "/",
    "INST]",
    "▁",
    "Ġ",
    " ",
    "  ",
    "\n",
    "\t",
    "\u{a0}",
    "👩‍👩‍👧",
    "e\u{301}",
    "é",
    "你好",
    "0",
    "12",
    "\u{e000}",
    "\u{e001}",
    "\u{f0000}",
    "\u{0}",
    "word",
    "Word ",
    "assistant\n",
    "user\n",
    "'s",
    "{{ x }}",
    "{% if %}",
];

/// Texts made of these, and of arbitrary characters.
pub fn text() -> impl Strategy<Value = String> {
    let part = prop_oneof![4 => proptest::sample::select(AWKWARD).prop_map(str::to_owned), 1 => any::<String>()];
    proptest::collection::vec(part, 0..10).prop_map(|parts| parts.concat())
}

/// Texts that are not blank.
pub fn answer() -> impl Strategy<Value = String> {
    (text(), "[a-z<|\\[]").prop_map(|(text, letter)| text + &letter)
}

/// Conversations that every template renders: optionally a system prompt, then questions and answers.
pub fn conversation() -> impl Strategy<Value = Vec<Message>> {
    (proptest::option::of(text()), proptest::collection::vec((text(), answer(), any::<bool>()), 1..4)).prop_map(
        |(prompt, turns)| {
            let mut messages: Vec<Message> = prompt.as_deref().map(system).into_iter().collect();
            let last = turns.len() - 1;
            for (index, (question, answered, trained)) in turns.into_iter().enumerate() {
                messages.push(user(&question));
                let mut message = assistant(&answered);
                message.weight = (index != last && !trained).then_some(0);
                messages.push(message);
            }
            messages
        },
    )
}

/// ESC, CR, BEL, a right-to-left override, and CSI as one character.
pub const STEERING: &str = "a\u{1b}[2J\r\u{7}\u{202e}\u{9b}b";

/// The message holds all of [`STEERING`], escaped.
#[track_caller]
pub fn assert_printable(message: &str) {
    assert!(!message.chars().any(|c| c.is_control() || matches!(c, '\u{202a}'..='\u{202e}')), "{message:?}");
    assert!(message.contains(r"a\u{1b}[2J\r\u{7}\u{202e}\u{9b}b"), "{message:?}");
}
