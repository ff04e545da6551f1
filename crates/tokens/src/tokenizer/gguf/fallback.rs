//! BPE with byte fallback as a SentencePiece model: scores from merges.
//!
//! SentencePiece merges any two neighbours that form a piece, the best score first. BPE merges the pairs of a list, the
//! first of the list first. The two are the same if each character of a piece is a piece, and the list has every pair that
//! forms a piece, with all pairs of one piece next to each other, as in a list that was made from a SentencePiece model.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use serde_json::Value;

use super::super::bpe::BpeFile;
use super::super::sentencepiece::Kind;
use super::super::vocab::fallback_byte;

/// The character that marks a space.
const SPACE: char = '▁';

/// Checks that the steps before merging only mark spaces, which llama.cpp does too.
///
/// # Errors
/// The reason against it.
pub(super) fn check_rules(parts: &BpeFile) -> Result<(), String> {
    let mut marks_spaces = false;
    for rule in flat(&parts.normalizer, "normalizers") {
        let is = |field: &str, value: &str| rule.get(field).and_then(Value::as_str) == Some(value);
        let replaces = is("type", "Replace")
            && is("content", "▁")
            && rule.pointer("/pattern/String").and_then(Value::as_str) == Some(" ");
        match replaces || (is("type", "Prepend") && is("prepend", "▁")) {
            true => marks_spaces |= replaces,
            false => return Err(format!("a GGUF has no place for its normalizer {rule}")),
        }
    }
    for rule in flat(&parts.pre_tokenizer, "pretokenizers") {
        let is = |field: &str, value: &str| rule.get(field).and_then(Value::as_str) == Some(value);
        if !(is("type", "Metaspace") && is("replacement", "▁")) {
            return Err(format!("a GGUF has no place for its pre-tokenizer {rule}"));
        }
        let splits = rule.get("split").and_then(Value::as_bool).unwrap_or(true);
        let crosses = |text: &str| text.chars().skip(1).any(|letter| letter == SPACE);
        if let Some((_, text)) = parts.tokens.iter().find(|(_, text)| splits && crosses(text)) {
            return Err(format!("its pre-tokenizer splits at spaces, and its token {text:?} has one inside"));
        }
        marks_spaces = true;
    }
    match marks_spaces {
        true => Ok(()),
        false => Err("it does not mark spaces with ▁".to_owned()),
    }
}

/// The rules of nested sequences.
fn flat<'a>(rule: &'a Value, list: &str) -> Vec<&'a Value> {
    match (rule, rule.get(list).and_then(Value::as_array)) {
        (Value::Null, _) => Vec::new(),
        (_, Some(parts)) => parts.iter().flat_map(|part| flat(part, list)).collect(),
        (rule, None) => vec![rule],
    }
}

/// The type of a token.
pub(super) fn kind(parts: &BpeFile, added: &BTreeSet<&str>, id: u32, text: &str) -> Kind {
    match fallback_byte(text) {
        _ if parts.specials.extras.unknown == Some(id) => Kind::Unknown,
        _ if parts.control.contains_key(&id) => Kind::Control,
        _ if added.contains(text) => Kind::UserDefined,
        Some(_) => Kind::Byte,
        None => Kind::Normal,
    }
}

/// The score of each token by its text: the earlier its first merge, the better.
///
/// In Mistral's models, all runs of spaces have one score, and their merges are mixed. So they are tried as one.
///
/// # Errors
/// The reason why no scores give the same ids.
pub(super) fn scores(parts: &BpeFile) -> Result<HashMap<&str, f32>, String> {
    let text_tokens: HashMap<&str, u32> = parts
        .tokens
        .iter()
        .filter(|(id, _)| !parts.control.contains_key(id))
        .map(|(id, text)| (text.as_str(), *id))
        .collect();
    let (pairs, ranks) = ranks(parts, &text_tokens, true).or_else(|_| ranks(parts, &text_tokens, false))?;
    let added: BTreeSet<&str> = parts.added.iter().map(|token| token.content.as_str()).collect();
    let formed: BTreeMap<u32, &str> = text_tokens
        .iter()
        .filter(|(text, _)| fallback_byte(text).is_none() && !added.contains(*text))
        .map(|(text, id)| (*id, *text))
        .collect();
    for (id, text) in &formed {
        check_formed(text, &text_tokens, |at| pairs.contains(&(*id, at)))?;
    }
    let unmerged = ranks.len();
    Ok(formed.iter().map(|(id, text)| (*text, -(ranks.get(id).copied().unwrap_or(unmerged) as f32))).collect())
}

/// The places where merges put tokens together, and the order of the tokens by their merges.
type Ranks = (HashSet<(u32, usize)>, HashMap<u32, usize>);

fn ranks(parts: &BpeFile, text_tokens: &HashMap<&str, u32>, runs_are_one: bool) -> Result<Ranks, String> {
    let mut pairs = HashSet::new();
    let mut ranks: HashMap<u32, usize> = HashMap::new();
    let (mut last, mut next, mut rank_of_runs) = (None, 0, None);
    for (left, right) in &parts.merges {
        let joined = format!("{left}{right}");
        let known = |text: &str| text_tokens.get(text).copied();
        let (Some(_), Some(_), Some(id)) = (known(left), known(right), known(&joined)) else { continue };
        pairs.insert((id, left.len()));
        let is_run = runs_are_one && joined.chars().all(|letter| letter == SPACE);
        let earlier = if is_run { rank_of_runs } else { ranks.get(&id).copied() };
        let rank = earlier.unwrap_or(next);
        if earlier.is_some() && last != earlier {
            return Err(format!("the merges that give {joined:?} stand apart, which scores can't say"));
        }
        if is_run {
            rank_of_runs = Some(rank);
        }
        next = next.max(rank + 1);
        last = Some(rank);
        ranks.insert(id, rank);
    }
    Ok((pairs, ranks))
}

/// Checks that each way to form a token is a merge.
fn check_formed(text: &str, text_tokens: &HashMap<&str, u32>, is_merge: impl Fn(usize) -> bool) -> Result<(), String> {
    // BPE takes a character without a token as its bytes, before it merges.
    let mut letters = text.chars().map(|letter| letter.to_string());
    if let Some(letter) = letters.find(|letter| !text_tokens.contains_key(letter.as_str())) {
        return Err(format!("its token {text:?} has {letter:?}, which is no token, so only llama.cpp would form it"));
    }
    for (at, _) in text.char_indices().skip(1) {
        let (left, right) = text.split_at(at);
        if text_tokens.contains_key(left) && text_tokens.contains_key(right) && !is_merge(at) {
            return Err(format!("{left:?} and {right:?} form a token, and no merge says so"));
        }
    }
    Ok(())
}
