//! `tokenizer.json` and `tekken.json` files that try to panic, abort, hang or fill memory. Each runs in its own process, whose memory and
//! processor time the system limits, and must end with the error that names the fault, or with ids.

mod common;

use std::process::Command;

use common::fixture;
use foehn_tokens::{Error, Result, Tokenizer};
use serde_json::{Value, json};

/// The variable that tells a process which file to use.
const INDEX: &str = "FOEHN_HOSTILE_TOKENIZER";
/// The largest resident memory, in KiB.
const RESIDENT: u64 = 256 * 1024;

/// The path of a value in the file, the value, and a part of the error; `None` if the text is encoded.
type Hostile = (&'static str, Value, Option<&'static str>);

fn sequence(field: &str, parts: Vec<Value>) -> Value {
    json!({"type": "Sequence", field: parts})
}

fn nested(field: &str, depth: usize, inner: &Value) -> Value {
    (0..depth).fold(inner.clone(), |inner, _| sequence(field, vec![inner]))
}

fn replace(kind: &str, pattern: &str, content: &str) -> Value {
    json!({"type": "Replace", "pattern": {kind: pattern}, "content": content})
}

fn prepend(text: &str) -> Value {
    json!({"type": "Prepend", "prepend": text})
}

fn split(regex: &str) -> Value {
    json!({"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": false})
}

fn added(content: &str, id: u32) -> Value {
    json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false, "normalized": true, "special": false})
}

fn many(count: usize, part: &Value) -> Vec<Value> {
    vec![part.clone(); count]
}

fn normalizers() -> Vec<Hostile> {
    let charsmap = |text: String| json!({"type": "Precompiled", "precompiled_charsmap": text});
    let tenfold = replace("String", "a", "aaaaaaaaaa");
    [
        (json!({"type": "Nonsense"}), Some("normalizer: unknown variant `Nonsense`")),
        (json!({"type": "NFC", "limit": 1}), Some("normalizer: unknown field `limit`")),
        (json!({"strip_left": true, "strip_right": true}), Some("normalizer: missing field `type`")),
        (json!("NFC"), Some("normalizer: invalid type")),
        (json!([{"type": "NFC"}]), Some("normalizer: ")),
        (prepend(""), Some("prepend is empty")),
        (prepend(&"a".repeat(1 << 20)), Some("1048576 bytes before it")),
        (sequence("normalizers", many(60, &prepend(&"a".repeat(100)))), Some("6000 bytes before it")),
        (sequence("normalizers", vec![prepend(&"a".repeat(1000)), tenfold.clone()]), Some("10000 bytes before it")),
        (replace("String", "", "a"), Some("pattern is empty")),
        (replace("Regex", "", "a"), Some("pattern is empty")),
        (replace("Regex", "x*", "a"), Some("matches the empty text")),
        (replace("Regex", "|x", "a"), Some("matches the empty text")),
        (replace("Regex", "(?=a)", "a"), Some("matches the empty text at byte")),
        (replace("Regex", r"\b", "a"), Some("matches the empty text at byte")),
        (replace("Regex", "(", "a"), Some("pattern \"(\"")),
        (replace("Regex", "[", "a"), Some("pattern \"[\"")),
        (replace("Regex", &"(".repeat(4000), "a"), Some("pattern")),
        (replace("Regex", &"a".repeat(100_000), "a"), Some("at most 4096")),
        (replace("Regex", r"(?:(?:\p{L}{1000}){1000}){1000}", "a"), Some("pattern")),
        (replace("Regex", "(?:(?:a{1000}){1000}){1000}(?!b)", "a"), Some("pattern")),
        (replace("Regex", "(?:a+)+(?<=b)", "a"), Some("fails at byte")),
        (replace("Regex", "(?:a|a|a)*(?!a)c", "a"), Some("fails at byte")),
        (json!({"type": "Replace", "pattern": "a", "content": "b"}), Some("normalizer: ")),
        (replace("String", "a", &"b".repeat(1 << 20)), Some("times longer")),
        (replace("Regex", "[^x]", &"b".repeat(65)), Some("65 times longer")),
        (sequence("normalizers", many(20, &tenfold)), Some("times longer")),
        (sequence("normalizers", vec![json!({"type": "NFKC"}), tenfold.clone()]), Some("110 times longer")),
        (nested("normalizers", 4, &sequence("normalizers", many(5, &tenfold))), Some("times longer")),
        (nested("normalizers", 9, &json!({"type": "NFC"})), Some("nested more than 8 deep")),
        (nested("normalizers", 60, &json!({"type": "NFC"})), Some("nested more than 8 deep")),
        (nested("normalizers", 200, &json!({"type": "NFC"})), Some("recursion limit")),
        (sequence("normalizers", many(65, &json!({"type": "Lowercase"}))), Some("more than 64 steps")),
        (sequence("normalizers", many(5_000, &json!({"type": "Lowercase"}))), Some("more than 64 steps")),
        (charsmap(String::new()), Some("unknown variant `Precompiled`")),
        (charsmap("AAAA".to_owned()), Some("unknown variant `Precompiled`")),
        (charsmap("/////w==".to_owned()), Some("unknown variant `Precompiled`")),
        (charsmap("no base64".to_owned()), Some("unknown variant `Precompiled`")),
        (charsmap("A".repeat(1 << 20)), Some("unknown variant `Precompiled`")),
        // The largest values that are accepted.
        (nested("normalizers", 8, &json!({"type": "NFC"})), None),
        (sequence("normalizers", many(64, &replace("String", "a", "b"))), None),
        (replace("Regex", "[^x]", &"b".repeat(64)), None),
        (sequence("normalizers", vec![]), None),
    ]
    .map(|(value, error)| ("/normalizer", value, error))
    .into()
}

fn pre_tokenizers() -> Vec<Hostile> {
    let metaspace = json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": true});
    let with = |field: &str, value: Value| {
        let mut changed = metaspace.clone();
        changed[field] = value;
        changed
    };
    let digits = json!({"type": "Digits", "individual_digits": true});
    [
        (json!({"type": "Nonsense"}), Some("pre_tokenizer: unknown variant `Nonsense`")),
        (json!({"type": "FixedLength", "length": 0}), Some("unknown variant `FixedLength`")),
        (json!({"type": "Digits", "individual_digits": true, "group": 3}), Some("unknown field `group`")),
        (json!({"type": "Digits"}), Some("missing field `individual_digits`")),
        (json!({"type": "Punctuation", "behavior": "Nonsense"}), Some("unknown variant `Nonsense`")),
        (with("replacement", json!("")), Some("pre_tokenizer: ")),
        (with("replacement", json!("ab")), Some("pre_tokenizer: ")),
        (with("prepend_scheme", json!("sometimes")), Some("unknown variant `sometimes`")),
        (with("add_prefix_space", json!(false)), Some("contradict each other")),
        (sequence("pretokenizers", many(40, &metaspace)), Some("times longer")),
        (nested("pretokenizers", 9, &digits), Some("nested more than 8 deep")),
        (sequence("pretokenizers", many(65, &digits)), Some("more than 64 steps")),
        (json!({"type": "Split", "pattern": {"Regex": "a"}, "behavior": "Isolated"}), Some("missing field `invert`")),
        (
            json!({"type": "Split", "pattern": {"String": ""}, "behavior": "Isolated", "invert": false}),
            Some("is empty"),
        ),
        (split("(?:a|a)*(?=b)"), None),
        (split("(?:a|a|a)*(?!a)c"), Some("fails at byte")),
        (split("(?:a+)+(?<=b)"), Some("fails at byte")),
        (split(r"(a*)(a*)(a*)(a*)(a*)\1\2b"), Some("fails at byte")),
        (split(r"(?:(?:(?:a?)*)*)*(?=b)"), None),
        (split(&format!("{}(?=b)", "a?".repeat(1000))), None),
        (split(r"(?P<r>a(?&r)*)(?=b)"), Some("pre_tokenizer")),
        (split(r"(?=(\d{3})+(?!\d))"), None),
        (split("x*"), None),
        (split(r"\p{L}{0,20}"), None),
        (split(r"\s+(?!\S)|\s+"), None),
        (split(&r"(?=\p{L})|".repeat(400)), Some("fails at byte")),
        (split(&r"(?=\p{L}\p{N}\p{S})|".repeat(200)), None),
        (json!({"type": "Whitespace"}), None),
        (sequence("pretokenizers", many(64, &split("x*"))), None),
        (
            sequence("pretokenizers", many(60, &split(&r"(?=\p{L}{20})|(?!\p{N})".repeat(50)))),
            Some("at most 16384 are accepted"),
        ),
    ]
    .map(|(value, error)| ("/pre_tokenizer", value, error))
    .into()
}

/// A ByteLevel rule needs the other vocabulary. The first word of the path says which one is used.
fn byte_levels() -> Vec<Hostile> {
    let byte_level = json!({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true});
    vec![
        ("smollm2/pre_tokenizer", sequence("pretokenizers", many(40, &byte_level)), Some("times longer")),
        ("smollm2/pre_tokenizer", sequence("pretokenizers", many(3, &byte_level)), None),
    ]
}

fn others() -> Vec<Hostile> {
    let fuse = json!({"type": "Fuse"});
    let long: Vec<Value> = (0..2000).map(|id| added(&format!("{id:04096}"), 10_000 + id)).collect();
    let distinct: Vec<Value> = (0..1000).map(|id| added(&format!("{id:04096}"), 2356 + id)).collect();
    vec![
        (
            "/post_processor",
            json!({"type": "RobertaProcessing", "sep": ["a", 1], "cls": ["b", 2]}),
            Some("RobertaProcessing"),
        ),
        ("/post_processor/single", json!([{"Nonsense": {}}]), Some("unknown variant `Nonsense`")),
        ("/post_processor", nested("processors", 60, &Value::Null), Some("nested more than 8 deep")),
        (
            "/decoder",
            json!({"type": "CTC", "pad_token": "a", "word_delimiter_token": "b", "cleanup": true}),
            Some("CTC"),
        ),
        (
            "/decoder",
            json!({"type": "Strip", "content": " ", "start": 1_000_000_000_000_u64, "stop": 0}),
            Some("decoder: "),
        ),
        ("/decoder", replace("Regex", "(?:a|a)*(?=b)", " "), Some("decoder: it gives other text")),
        ("/decoder", replace("String", "a", &"b".repeat(1 << 20)), Some("decoder: it gives other text")),
        ("/decoder", nested("decoders", 60, &fuse), Some("nested more than 8 deep")),
        ("/decoder", sequence("decoders", many(5_000, &fuse)), Some("more than 64 steps")),
        (
            "/added_tokens",
            json!([added(&"a".repeat(1 << 20), 2356)]),
            Some("added_tokens[0]: content has 1048576 bytes"),
        ),
        ("/added_tokens", json!(long), Some("added_tokens[1024]: content")),
        ("/added_tokens", json!(distinct), None),
        ("/added_tokens", json!([added("zz", u32::MAX)]), Some("its id 4294967295 is beyond")),
        ("/added_tokens", json!([{"id": 2356, "content": "zz"}]), Some("missing field `single_word`")),
        ("/added_tokens", json!([added("zz", 2356), added("zz", 2357)]), Some("added_tokens: ")),
        ("/model/dropout", json!(0.5), Some("model.dropout")),
        ("/model/nonsense", json!(1), Some("unknown field `nonsense`")),
        ("/nonsense", json!(1), Some("unknown field `nonsense`")),
        ("/model/merges", json!([["▁t"]]), Some("not the JSON")),
        ("/model/merges", json!(["a"]), Some("is not two tokens")),
        ("/model/merges", json!([["a", "☃☂"]]), Some("model.merges")),
        ("/model/vocab/zzz", json!(-1), Some("invalid value")),
    ]
}

/// The first word of the path says which of the two generations is changed.
fn tekkens() -> Vec<Hostile> {
    let special = |rank: u32, text: &str| json!({"rank": rank, "token_str": text, "is_control": true});
    let specials: Vec<Value> = (0..70_000).map(|rank| special(rank, &format!("[{rank}]"))).collect();
    let specials_count = "tekken-v13/config/default_num_special_tokens";
    let size = "tekken-v13/config/default_vocab_size";
    let bytes = "tekken-v13/vocab/300/token_bytes";
    let pattern = "tekken-v13/config/pattern";
    let version = "tekken-v13/config/version";
    let list = "tekken-v13/special_tokens";
    vec![
        (specials_count, json!(u32::MAX), Some("default_num_special_tokens: 4294967295 control tokens, at most 65536")),
        (specials_count, json!(65_536), Some("default_vocab_size: 1556 is not between 65792")),
        (specials_count, json!(-1), Some("invalid value")),
        (
            specials_count,
            json!(20),
            Some("special_tokens: 36 control tokens, but config.default_num_special_tokens is 20"),
        ),
        (specials_count, json!(1001), None),
        (size, json!(u32::MAX), Some("4294967295 is not between 1256")),
        (size, json!(4_000_000), Some("vocab: default_vocab_size needs 3999000 tokens, and there are 564")),
        (size, json!(1255), Some("1255 is not between 1256")),
        (size, json!(1256), None),
        (size, json!(1564), None),
        (size, json!(1565), Some("needs 565 tokens, and there are 564")),
        (size, json!(1e3), Some("invalid type: floating point")),
        ("tekken-v13/vocab", json!([]), Some("needs 556 tokens, and there are 0")),
        ("tekken-v13/vocab/300/rank", json!(301), Some("vocab[300]: its rank is 301, not 300")),
        ("tekken-v13/vocab/300/rank", json!(299), Some("vocab[300]: its rank is 299, not 300")),
        ("tekken-v13/vocab/300/rank", json!(-1), Some("invalid value")),
        ("tekken-v13/vocab/300/extra", json!(1), Some("unknown field `extra`")),
        (bytes, json!("QQ=="), Some("vocab[300]: its bytes are also those of vocab[65]")),
        (bytes, json!("QQ"), Some("vocab[300].token_bytes: it is not Base64")),
        (bytes, json!("Q Q=="), Some("vocab[300].token_bytes: it is not Base64")),
        (bytes, json!("\u{1b}[2J"), Some("vocab[300].token_bytes: it is not Base64")),
        (bytes, json!(""), Some("vocab[300]: it has 0 bytes")),
        (bytes, json!("A".repeat(1 << 20)), Some("vocab[300]: it has 786432 bytes")),
        (bytes, json!(["QQ=="]), Some("invalid type: sequence")),
        (
            "tekken-v13/vocab/65/token_bytes",
            json!("Qg=="),
            Some("vocab[65]: the first 256 tokens are the bytes in order"),
        ),
        // These ranks are not used, as in the reference.
        ("tekken-v13/vocab/560/token_bytes", json!("QQ"), None),
        ("tekken-v13/vocab/300/token_str", json!(7), None),
        (pattern, json!(""), Some("config.pattern: pattern is empty")),
        (pattern, json!("("), Some("config.pattern: pattern \"(\"")),
        (pattern, json!("a".repeat(100_000)), Some("at most 4096")),
        (pattern, json!("(?:a|a|a)*(?!a)c"), Some("fails at byte")),
        (pattern, json!(r"(?:\p{L}{1000}){1000}|\s+(?!\S)|\s+"), Some("config.pattern: pattern")),
        (pattern, json!("x*"), None),
        (pattern, json!("b"), None),
        (pattern, json!(r"\p{L}*|\s+(?!\S)|\s+"), None),
        (version, json!("v99"), Some("config.version is \"v99\", which is not supported")),
        (version, json!("13"), Some("config.version is")),
        (version, json!("v15"), None),
        ("tekken-v3/config/version", json!("v13"), Some("special_tokens: a file of version v13 lists them")),
        ("tekken-v3/config/version", json!("v7"), None),
        ("tekken-v3/special_tokens", Value::Null, None),
        (list, json!([]), Some("special_tokens: there is no <s>")),
        (list, json!(specials), Some("70000 control tokens, but")),
        ("tekken-v13/special_tokens/3/rank", json!(4), Some("special_tokens[3]: its rank is 4, not 3")),
        ("tekken-v13/special_tokens/3/token_str", json!("<s>"), Some("special_tokens: \"<s>\" is there twice")),
        ("tekken-v13/special_tokens/3/token_str", json!("<SPECIAL_500>"), Some("is there twice")),
        ("tekken-v13/special_tokens/3/token_str", json!(""), Some("special_tokens[3]: its text has 0 bytes")),
        ("tekken-v13/special_tokens/3/token_str", json!("a".repeat(1 << 20)), Some("its text has 1048576 bytes")),
        ("tekken-v13/special_tokens/2/token_str", json!("x"), Some("special_tokens: there is no </s>")),
        ("tekken-v13/special_tokens/3/is_control", json!("yes"), Some("invalid type")),
    ]
}

fn all() -> Vec<Hostile> {
    [normalizers(), pre_tokenizers(), byte_levels(), others(), tekkens()].into_iter().flatten().collect()
}

fn open((place, value, _): &Hostile) -> Result<Vec<u32>> {
    let (base, pointer) = place.split_at(place.find('/').unwrap());
    let name = if base.starts_with("tekken") { "tekken.json" } else { "tokenizer.json" };
    let base = fixture(if base.is_empty() { "mini-first" } else { base }).join(name);
    let mut file: Value = serde_json::from_str(&std::fs::read_to_string(base).unwrap()).unwrap();
    let (parent, field) = pointer.rsplit_once('/').unwrap();
    file.pointer_mut(parent).unwrap()[field] = value.clone();
    if pointer == "/normalizer" {
        // Only the normalizer lengthens the text.
        file["pre_tokenizer"] = Value::Null;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, file.to_string()).unwrap();
    drop(file);
    let tokenizer = Tokenizer::open(path)?;
    tokenizer.encode_text(&format!("{}{} 1234567 é日本\n", "a".repeat(3000), " ".repeat(2000)))
}

/// An error and its causes.
fn chain(error: &Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        text += &format!(": {error}");
        source = error.source();
    }
    text
}

/// Runs in its own process.
#[test]
fn a_hostile_tokenizer_alone() {
    let Some(index) = std::env::var(INDEX).ok().and_then(|index| index.parse::<usize>().ok()) else { return };
    let hostile = &all()[index];
    match (open(hostile), hostile.2) {
        (Ok(ids), None) => assert!(!ids.is_empty()),
        (Err(error), Some(part)) => assert!(chain(&error).contains(part), "{}", chain(&error)),
        (Err(error), None) => panic!("{}", chain(&error)),
        (Ok(ids), Some(part)) => panic!("{} ids, and not: {part}", ids.len()),
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
    let peak: u64 = peak.split_whitespace().next().and_then(|peak| peak.parse().ok()).unwrap_or(0);
    println!("peak {peak} KiB");
    assert!(peak < RESIDENT, "{peak} KiB were resident");
}

#[test]
fn hostile_tokenizers_end_in_errors_or_ids() {
    let mut failed = Vec::new();
    for (index, (place, value, _)) in all().iter().enumerate() {
        let program = std::env::current_exe().unwrap();
        let limited =
            "ulimit -v 1500000; ulimit -t 20; ulimit -c 0; exec \"$0\" --exact a_hostile_tokenizer_alone --nocapture";
        let output =
            Command::new("sh").args(["-c", limited]).arg(program).env(INDEX, index.to_string()).output().unwrap();
        if !output.status.success() {
            let said: String = String::from_utf8_lossy(&output.stderr).chars().take(600).collect();
            let value: String = value.to_string().chars().take(100).collect();
            failed.push(format!("{index} {place} {value}: {}: {said}", output.status));
        }
    }
    assert!(failed.is_empty(), "{} of {}:\n{}", failed.len(), all().len(), failed.join("\n"));
}
