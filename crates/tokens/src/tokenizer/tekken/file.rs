//! Reads `tekken.json`.
//!
//! There are two generations: the earlier one leaves its control tokens to the program, the later one lists them in
//! `special_tokens`. In both, `<SPECIAL_n>` fills up the numbers to `default_num_special_tokens`, and the id of a token
//! is its rank plus this number. Of the ranks, only those below `default_vocab_size` are used.

use std::collections::BTreeSet;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::{Error, Result};

use super::Tekken;
use crate::tokenizer::bpe::bad;
use crate::tokenizer::extras::Extras;
use crate::tokenizer::files::read_json;
use crate::tokenizer::merge::{Entry, Pieces};
use crate::tokenizer::rules::{Pattern, PatternText};
use crate::tokenizer::vocab::{MAX_ID, Strips, Token, Vocab, digest_bytes};
use crate::tokenizer::{Encoder, Specials, Tokenizer, gpt2_bytes};

/// The largest number of control tokens. Published files have 1,000.
const MAX_SPECIALS: u32 = 1 << 16;

/// The longest token, in bytes, and the limit for all of them together. Published files have 128 and 900,000.
const MAX_TOKEN: usize = 4096;
const MAX_TOKENS_TOTAL: usize = 64 << 20;

/// The last version whose files may leave out `special_tokens`.
const LAST_WITHOUT_LIST: u32 = 7;

/// The control tokens of a file without `special_tokens`.
const EARLIER: [&str; 20] = [
    "<unk>",
    "<s>",
    "</s>",
    "[INST]",
    "[/INST]",
    "[AVAILABLE_TOOLS]",
    "[/AVAILABLE_TOOLS]",
    "[TOOL_RESULTS]",
    "[/TOOL_RESULTS]",
    "[TOOL_CALLS]",
    "[IMG]",
    "<pad>",
    "[IMG_BREAK]",
    "[IMG_END]",
    "[PREFIX]",
    "[MIDDLE]",
    "[SUFFIX]",
    "[SYSTEM_PROMPT]",
    "[/SYSTEM_PROMPT]",
    "[TOOL_CONTENT]",
];

/// As in mistral-common, other keys are passed over: they describe images and sound.
#[derive(Deserialize)]
struct File {
    config: Config,
    vocab: Vec<Ranked>,
    special_tokens: Option<Vec<Special>>,
}

/// `num_vocab_tokens` is not needed: it is the length of `vocab`.
#[derive(Deserialize)]
struct Config {
    pattern: String,
    default_vocab_size: u32,
    default_num_special_tokens: u32,
    version: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Ranked {
    rank: u32,
    /// In Base64.
    token_bytes: String,
    #[serde(rename = "token_str")]
    _token_str: IgnoredAny,
}

/// Whether it is called a control token makes no difference: no text produces any of them.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Special {
    rank: u32,
    token_str: String,
    #[serde(rename = "is_control")]
    _is_control: bool,
}

/// The part of the file that [`version`] reads.
#[derive(Deserialize)]
struct Versioned {
    config: VersionOnly,
}

#[derive(Deserialize)]
struct VersionOnly {
    version: String,
}

/// Loads a `tekken.json`.
pub(crate) fn load(path: &Path) -> Result<Tokenizer> {
    let File { config, vocab, special_tokens } = read_json(path)?;
    let specials = specials(path, &config, special_tokens)?;
    let first = config.default_num_special_tokens;
    let ranks = config.default_vocab_size - first;
    if vocab.len() < ranks as usize {
        let reason = format!("default_vocab_size needs {ranks} tokens, and there are {}", vocab.len());
        return Err(bad(path, "vocab", reason));
    }
    let ranked: Vec<Box<[u8]>> =
        (0..ranks).zip(vocab).map(|(rank, token)| bytes(path, rank, token)).collect::<Result<_>>()?;
    let total: usize = ranked.iter().map(|bytes| bytes.len()).sum();
    if total > MAX_TOKENS_TOTAL {
        return Err(bad(path, "vocab", format!("{total} bytes in all, at most {MAX_TOKENS_TOTAL} are accepted")));
    }
    let pattern = Pattern::new(PatternText::Regex(config.pattern.clone()))
        .map_err(|reason| bad(path, "config.pattern", reason))?;

    let id = |name: &str| (0..).zip(&specials).find(|(_, special)| *special == name).map(|(id, _)| id);
    let needed = |name| id(name).ok_or_else(|| bad(path, "special_tokens", format!("there is no {name}")));
    let extras = Extras { unknown: id("<unk>"), padding: id("<pad>"), ..Extras::default() };
    let roles = Specials { bos: Some(needed("<s>")?), eos: vec![needed("</s>")?], add_bos: true, extras };
    let pieces = pieces(path, first, &ranked)?;
    let mut hash = Sha256::new();
    hash.update("tekken");
    digest_bytes(&mut hash, config.pattern.as_bytes());
    let control = (0..).zip(specials).map(|(id, text)| {
        let bytes = text.clone().into_bytes();
        (id, Token { text, bytes, control: true, strips: Strips::default() })
    });
    let texts = (first..).zip(ranked).map(|(id, bytes)| {
        let text = bytes.iter().copied().map(gpt2_bytes::char_of).collect();
        (id, Token { text, bytes: bytes.into_vec(), control: false, strips: Strips::default() })
    });
    let vocab = Vocab::new(path, control.chain(texts), false)?;
    let encoder = Tekken { path: path.to_owned(), pattern, pieces, bytes: (first..first + 256).collect() };
    Ok(Tokenizer::assemble(Encoder::Tekken(Box::new(encoder)), vocab, roles, hash))
}

/// The number in `config.version`, which is also that of the model's template.
pub(crate) fn version(path: &Path) -> Result<u32> {
    let Versioned { config } = read_json(path)?;
    number(path, &config.version)
}

/// The file with another version. `None` if a file of this version has to list its control tokens, and does not.
pub(crate) fn with_version(path: &Path, number: u32) -> Result<Option<Vec<u8>>> {
    let mut file: Value = read_json(path)?;
    if number > LAST_WITHOUT_LIST && file.get("special_tokens").is_none_or(Value::is_null) {
        return Ok(None);
    }
    if let Some(version) = file.pointer_mut("/config/version") {
        *version = Value::from(format!("v{number}"));
    }
    Ok(Some(file.to_string().into_bytes()))
}

/// The number of a version. Those of mistral-common are accepted.
fn number(path: &Path, version: &str) -> Result<u32> {
    let number = version.strip_prefix('v').and_then(|number| number.parse().ok());
    number.filter(|number| matches!(number, 1 | 2 | 3 | 7 | 11 | 13 | 15)).ok_or_else(|| Error::Unsupported {
        path: path.to_owned(),
        place: "config.version".to_owned(),
        found: format!("{version:?}"),
        supported: "v1, v2, v3, v7, v11, v13, v15",
    })
}

/// The texts of the control tokens by id, after the counts were checked.
fn specials(path: &Path, config: &Config, listed: Option<Vec<Special>>) -> Result<Vec<String>> {
    let version = number(path, &config.version)?;
    let Config { default_vocab_size: size, default_num_special_tokens: count, .. } = *config;
    if count > MAX_SPECIALS {
        let reason = format!("{count} control tokens, at most {MAX_SPECIALS} are accepted");
        return Err(bad(path, "config.default_num_special_tokens", reason));
    }
    if size > MAX_ID || size < count.saturating_add(256) {
        let reason =
            format!("{size} is not between {} ({count} control tokens and 256 bytes) and {MAX_ID}", count + 256);
        return Err(bad(path, "config.default_vocab_size", reason));
    }
    let mut texts = match listed {
        Some(listed) => listed.into_iter().enumerate().map(|(index, special)| text(path, index, special)).collect(),
        None if version <= LAST_WITHOUT_LIST => Ok(EARLIER.map(str::to_owned).to_vec()),
        None => Err(bad(path, "special_tokens", format!("a file of version v{version} lists them"))),
    }?;
    if texts.len() > count as usize {
        let reason = format!("{} control tokens, but config.default_num_special_tokens is {count}", texts.len());
        return Err(bad(path, "special_tokens", reason));
    }
    texts.extend((texts.len()..count as usize).map(|id| format!("<SPECIAL_{id}>")));
    let mut known = BTreeSet::new();
    match texts.iter().find(|text| !known.insert(text.as_str())) {
        Some(twice) => Err(bad(path, "special_tokens", format!("{twice:?} is there twice"))),
        None => Ok(texts),
    }
}

/// The text of the control token at this place of the list.
fn text(path: &Path, index: usize, special: Special) -> Result<String> {
    let place = format!("special_tokens[{index}]");
    if special.rank as usize != index {
        return Err(bad(path, &place, format!("its rank is {}, not {index}", special.rank)));
    }
    if special.token_str.is_empty() || special.token_str.len() > MAX_TOKEN {
        let reason = format!("its text has {} bytes, not between 1 and {MAX_TOKEN}", special.token_str.len());
        return Err(bad(path, &place, reason));
    }
    Ok(special.token_str)
}

/// The bytes of the token at this place of the list.
fn bytes(path: &Path, rank: u32, token: Ranked) -> Result<Box<[u8]>> {
    let place = format!("vocab[{rank}]");
    if token.rank != rank {
        return Err(bad(path, &place, format!("its rank is {}, not {rank}", token.rank)));
    }
    let bytes = STANDARD
        .decode(&token.token_bytes)
        .map_err(|error| bad(path, &format!("{place}.token_bytes"), format!("it is not Base64: {error}")))?;
    if bytes.is_empty() || bytes.len() > MAX_TOKEN {
        return Err(bad(path, &place, format!("it has {} bytes, not between 1 and {MAX_TOKEN}", bytes.len())));
    }
    if u8::try_from(rank).is_ok_and(|byte| bytes != [byte]) {
        return Err(bad(path, &place, format!("the first 256 tokens are the bytes in order, this one is {bytes:?}")));
    }
    Ok(bytes.into_boxed_slice())
}

/// The table for encoding. A lower rank is a better score; these numbers are exact as floating-point numbers.
fn pieces(path: &Path, first: u32, ranked: &[Box<[u8]>]) -> Result<Pieces> {
    let mut pieces = Pieces::with_capacity_and_hasher(ranked.len(), Default::default());
    for (rank, bytes) in (0_u32..).zip(ranked) {
        let entry = Entry { id: first + rank, score: -(rank as f32), unused: false };
        if let Some(other) = pieces.insert(bytes.clone(), entry) {
            let reason = format!("its bytes are also those of vocab[{}]", other.id - first);
            return Err(bad(path, &format!("vocab[{rank}]"), reason));
        }
    }
    Ok(pieces)
}
