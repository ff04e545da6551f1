//! The Go templates for Ollama render what the Jinja templates render. A few lines here interpret the part of Go's template
//! language that they use.

mod common;

use common::{assistant, fixture, pair, system, user};
use foehn_record::{Message, Role};
use foehn_tokens::{ChatTemplate, Error, MistralVersion, TemplateChoice, Tokenizer};

/// Renders a template: quoted texts, fields, and `if`, `else if`, `range` over the messages.
fn go(template: &str, messages: &[Message]) -> String {
    let mut actions = Vec::new();
    for part in template.split("{{").skip(1) {
        let (action, text) = part.split_once("}}").unwrap();
        assert!(text.trim().is_empty(), "text outside of quotes: {text:?}");
        let trimmed = action.ends_with('-') || text.is_empty();
        assert!(trimmed || template.contains(&format!("{}}}}}{text}{{{{-", action)), "white space is kept: {text:?}");
        actions.push(action.trim_matches('-').trim());
    }
    let system: Vec<&str> = messages.iter().filter(|m| m.role == Role::System).map(|m| m.content.as_str()).collect();
    let mut out = String::new();
    run(&actions, messages, &system.join("\n\n"), None, &mut out);
    out
}

/// Runs the actions of one block.
fn run(actions: &[&str], messages: &[Message], system: &str, at: Option<usize>, out: &mut String) {
    let mut next = 0;
    while next < actions.len() {
        let action = actions[next];
        if !action.starts_with("if ") && !action.starts_with("range ") {
            match action {
                ".Content" => out.push_str(&messages[at.unwrap()].content),
                "$.System" => out.push_str(system),
                text => out.push_str(&serde_json::from_str::<String>(text).unwrap()),
            }
            next += 1;
            continue;
        }
        // The branches of this block: where each begins, and where all end.
        let mut starts = vec![next];
        let (mut depth, mut end) = (1, next);
        while depth > 0 {
            end += 1;
            match actions[end] {
                "end" => depth -= 1,
                inner if inner.starts_with("if ") || inner.starts_with("range ") => depth += 1,
                inner if inner.starts_with("else if ") && depth == 1 => starts.push(end),
                _ => {}
            }
        }
        starts.push(end);
        if action.starts_with("range ") {
            assert_eq!(action, "range $i, $_ := .Messages");
            (0..messages.len()).for_each(|at| run(&actions[next + 1..end], messages, system, Some(at), out));
        } else {
            let taken = starts.windows(2).find(|pair| {
                let condition = actions[pair[0]].trim_start_matches("else ").trim_start_matches("if ");
                holds(condition, messages, system, at)
            });
            if let Some(pair) = taken {
                run(&actions[pair[0] + 1..pair[1]], messages, system, at, out);
            }
        }
        next = end + 1;
    }
}

fn holds(condition: &str, messages: &[Message], system: &str, at: Option<usize>) -> bool {
    let inner = condition.strip_prefix("and $.System (").and_then(|inner| inner.strip_suffix(')'));
    match (condition, inner) {
        (_, Some(inner)) => !system.is_empty() && holds(inner, messages, system, at),
        ("not .System", _) => system.is_empty(),
        ("lt $i 2", _) => at.unwrap() < 2,
        ("eq (len (slice $.Messages $i)) 1", _) => at.unwrap() + 1 == messages.len(),
        (role, _) => {
            let role = role.strip_prefix("eq .Role \"").unwrap().strip_suffix('"').unwrap();
            messages[at.unwrap()].role.name() == role
        }
    }
}

/// The ids of the Go template's text, as llama.cpp tokenizes it, are those of the prompt.
#[test]
fn go_templates_render_the_same() {
    let long = [user("  What?"), assistant("It is \"x\"."), user("And \\n?"), assistant("y"), user("z")];
    let prompted = [&[system("Be terse.")], &long[..]].concat();
    let check = |tokenizer: &Tokenizer, template: &ChatTemplate, expected: &[&str]| {
        let go_template = template.ollama(tokenizer).unwrap();
        let rendered = [&long[..1], &long[..3], &long[..], &prompted[..2], &prompted[..4], &prompted[..]]
            .map(|messages| go(&go_template, messages));
        for (text, expected) in rendered.iter().zip(expected) {
            assert_eq!(text, expected, "{go_template}");
        }
        rendered
    };
    let (smollm2, own) = (&pair("smollm2").tokenizer, &pair("smollm2").template);
    let default =
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n";
    let asked = "<|im_start|>user\n  What?<|im_end|>\n<|im_start|>assistant\n";
    check(smollm2, own, &[&format!("{default}{asked}")]);
    let mut tokenizer = Tokenizer::open(fixture("smollm2")).unwrap();
    let chatml = TemplateChoice::ChatMl.open(&mut tokenizer).unwrap();
    let [first, .., last] = check(&tokenizer, &chatml, &[asked]);
    assert_eq!(first, asked);
    assert!(
        last.starts_with("<|im_start|>system\nBe terse.<|im_end|>\n<|im_start|>user\n  What?<|im_end|>\n"),
        "{last}"
    );
    assert!(last.ends_with("<|im_start|>user\nz<|im_end|>\n<|im_start|>assistant\n"), "{last}");
    assert_eq!(tokenizer.stop_texts(), ["<|im_end|>"]);

    let (v1, v3, v7) = (pair("v1"), pair("v3"), pair("v7"));
    let [.., last] = check(&v1.tokenizer, &v1.template, &["[INST]   What? [/INST]"]);
    assert!(
        last.starts_with("[INST] Be terse.\n\n  What? [/INST] It is \"x\".</s>[INST] And \\n? [/INST] y</s>"),
        "{last}"
    );
    let [.., last] = check(&v3.tokenizer, &v3.template, &["[INST]  What?[/INST]"]);
    assert!(last.ends_with("[/INST]y</s>[INST]Be terse.\n\nz[/INST]") && last.starts_with("[INST]  What?"), "{last}");
    let [.., last] = check(&v7.tokenizer, &v7.template, &["[INST]  What?[/INST]"]);
    assert!(last.starts_with("[SYSTEM_PROMPT]Be terse.[/SYSTEM_PROMPT][INST]  What?[/INST]"), "{last}");
    let tekken = Tokenizer::open(fixture("mini-tekken")).unwrap();
    let v13 = ChatTemplate::mistral(MistralVersion::V13, &tekken).unwrap();
    check(&tekken, &v13, &["<s>[INST]  What?[/INST]"]);
    assert_eq!(tekken.stop_texts(), ["</s>"]);
}

#[test]
fn other_shapes_are_refused() {
    let tokenizer = &pair("smollm2").tokenizer;
    let check = |source: &str, reason: &str| {
        let template = ChatTemplate::jinja(source, tokenizer).unwrap();
        let error = template.ollama(tokenizer).unwrap_err();
        assert!(matches!(error, Error::NoGoTemplate { .. }) && error.to_string().contains(reason), "{error}");
    };
    check("{% for m in messages %}{{ m.role }}{% endfor %}", "leaves a message out");
    check("{% for m in messages %}{{ loop.index }}{{ m.content }}{% endfor %}", "depends on more than their roles");
    check(
        "{% for m in messages %}{{ 'x' if loop.index > 4 }}[{{ m.role }}]{{ m.content }}.{% endfor %}{{ '>' if add_generation_prompt }}",
        "longer conversations",
    );
    let error = pair("v3").template.ollama(tokenizer).unwrap_err();
    assert!(matches!(error, Error::WrongTokenizer { .. }), "{error}");
}
