//! Unusual templates, and templates that violate the guarantees.

mod common;

use std::error::Error as _;

use common::{PAIRS, STEERING, assert_printable, assistant, conversation, fixture, pair, system, user};
use foehn_record::Message;
use foehn_tokens::{ChatTemplate, Error, Sample, TemplateChoice, Tokenizer};
use proptest::prelude::*;

/// ChatML without a default system prompt.
const CHATML: &str = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}\
                      {% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

fn render(source: &str, messages: &[Message]) -> Result<Sample, Error> {
    let tokenizer = &pair("smollm2").tokenizer;
    ChatTemplate::jinja(source, tokenizer)?.sample(tokenizer, messages)
}

/// The text of a sample, with `«»` around the trained parts.
fn learnt(sample: &Sample) -> String {
    let tokenizer = &pair("smollm2").tokenizer;
    let mut text = String::new();
    let mut inside = false;
    for (id, masked) in sample.input_ids().iter().zip(sample.loss_mask()) {
        if *masked != inside {
            text.push(if *masked { '«' } else { '»' });
            inside = *masked;
        }
        text += &tokenizer.decode(&[*id], false);
    }
    if inside { text + "»" } else { text }
}

#[test]
fn templates_that_render() {
    let check = |source: &str, messages: &[Message], expected: &str| {
        assert_eq!(learnt(&render(source, messages).unwrap()), expected, "{source}");
    };
    let turn = [user("Hi"), assistant("Yo")];
    let chat = "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n«Yo<|im_end|>»\n";
    check(CHATML, &turn, chat);
    check(&CHATML.replace("m.content", "m['content'] | trim"), &[user(" Hi\n"), assistant("\nYo ")], chat);
    check(&CHATML.replace("m.content", "m.content.strip()"), &[user(" Hi\n"), assistant("Yo")], chat);
    // Text between the answer and the stop token is trained; text after the stop token is not.
    check(
        &CHATML.replace("<|im_end|>\n", ".<|im_end|> <|im_end|>\n"),
        &turn,
        "<|im_start|>user\nHi.<|im_end|> <|im_end|>\n<|im_start|>assistant\n«Yo.<|im_end|>» <|im_end|>\n",
    );
    // Generation begins at the end of the generation prompt, even within a line.
    check(
        &CHATML.replace("{{ m.content }}", "{{ '' if m.role == 'user' else '> ' }}{{ m.content }}"),
        &turn,
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n«> Yo<|im_end|>»\n",
    );
    // A system prompt that moves to the last question, as in Mistral's v3.
    check(
        "{% for m in messages if m.role != 'system' %}{% set last = loop.revindex0 == (0 if add_generation_prompt else 1) %}\
           {% if m.role == 'user' %}Q: {{ messages[0].content + ' ' if last and messages[0].role == 'system' }}{{ m.content }} A:\
           {% else %} {{ m.content }}<|im_end|>{% endif %}{% endfor %}",
        &[system("S"), user("a"), assistant("b"), user("c"), assistant("d")],
        "Q: a A:« b<|im_end|>»Q: S c A:« d<|im_end|>»",
    );
    // The block that marks answers for transformers has no effect.
    check(&CHATML.replace("{{ m.content }}", "{% generation %}{{ m.content }}{% endgeneration %}"), &turn, chat);
    // An untrained turn may end in any way.
    let mut untrained = [user("a"), assistant("b"), user("c"), assistant("d")];
    untrained[1].weight = Some(0);
    check(
        "{% for m in messages %}{{ m.content }}|{{ '<|im_end|>' if loop.last and m.role == 'assistant' }}{% endfor %}",
        &untrained,
        "a|b|c|«d|<|im_end|>»",
    );
}

/// The indent of an answer's first line is kept, even if the template trims it. The prompt is still a prefix.
#[test]
fn an_answer_keeps_the_indent_of_its_first_line() {
    let answer = "    a = w * h\n    return a";
    for pair in PAIRS.iter() {
        let sample = pair.template.sample(&pair.tokenizer, &[user("Fill in."), assistant(&format!(" \n{answer}\n "))]);
        let sample = sample.unwrap();
        let text = pair.tokenizer.decode(sample.input_ids(), true);
        assert!(text.ends_with(&format!("{answer}\n")) || text.ends_with(answer), "{}: {text:?}", pair.name);
        let prompt = pair.template.prompt(&pair.tokenizer, &[user("Fill in.")]).unwrap();
        assert!(sample.input_ids().starts_with(&prompt), "{}", pair.name);
    }
    let trimming = CHATML.replace("m.content", "m.content | trim");
    let sample = render(&trimming, &[user(" Hi "), assistant(answer)]).unwrap();
    let opening = "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n";
    assert_eq!(learnt(&sample), format!("{opening}«{answer}<|im_end|>»\n"));
}

/// A `tokenizer.model` with a Jinja template gives the ids of Mistral's own template: one `▁` per turn.
#[test]
fn a_sentencepiece_model_with_a_jinja_template() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(fixture("tokenizer.model.v3"), folder.path().join("tokenizer.model")).unwrap();
    let source = "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }}[/INST]\
                  {% else %} {{ m.content }}</s>{% endif %}{% endfor %}";
    std::fs::write(folder.path().join("chat_template.jinja"), source).unwrap();
    let tokenizer = Tokenizer::open(folder.path()).unwrap();
    let template = ChatTemplate::open(folder.path(), &tokenizer).unwrap();
    let messages = [user("Hi there"), assistant("Hello."), user("Bye"), assistant("See you.")];
    let sample = template.sample(&tokenizer, &messages).unwrap();
    let own = pair("v3");
    assert_eq!(sample, own.template.sample(&own.tokenizer, &messages).unwrap());
    // As in mistral-common, also for the first turn.
    assert!(sample.input_ids().starts_with(&[1, 3, 16127, 1504, 4, 23325, 29491, 2, 3]), "{:?}", sample.input_ids());
}

/// Long conversations can be rendered, and every answer in them is trained from the start of its generation.
#[test]
fn a_conversation_of_four_thousand_turns() {
    let mut messages = Vec::new();
    for turn in 0..2_000 {
        messages.extend([user(&format!("q{turn}")), assistant(&format!("a{turn}"))]);
    }
    let sample = render(CHATML, &messages).unwrap();
    let text = learnt(&sample);
    assert_eq!(text.matches("<|im_start|>assistant\n«a").count(), 2_000);
    assert_eq!(text.matches("<|im_end|>»").count(), 2_000);
}

#[test]
fn templates_that_break_a_promise() {
    let check = |source: &str, messages: &[Message], expected: fn(&Error) -> bool| {
        let error = render(source, messages).unwrap_err();
        assert!(expected(&error), "{source}: {error}");
    };
    let turn = [user("Hi <b>"), assistant("Yo <b>")];
    let altered = |error: &Error| matches!(error, Error::ContentAltered { .. });
    let untrained =
        |error: &Error| matches!(error, Error::StopTokenUntrained { index: 1, stop_tokens } if *stop_tokens == [2]);
    check("{% for m in messages %}{{ m.content }}{% endfor %}", &turn, untrained);
    check("{% for m in messages %}<|im_end|>{{ m.content }}{% endfor %}", &turn, untrained);
    check("{% for m in messages %}{{ m.content }}<|endoftext|>{% endfor %}", &turn, untrained);
    check(&CHATML.replace("m.content", "m.content | upper"), &turn, altered);
    check(&CHATML.replace("m.content", "m.content ~ m.content"), &turn, altered);
    check(&CHATML.replace("m.content", "m.content.split('<')[0]"), &turn, altered);
    check(&CHATML.replace("m.content", "m.content[1:]"), &turn, altered);
    check(&CHATML.replace("m.content", "m.content | replace(' ', '')"), &turn, altered);
    check(&CHATML.replace("m.content", "'' if m.role == 'assistant' else m.content"), &turn, altered);
    let prefix = |error: &Error| matches!(error, Error::PromptNotPrefix { .. });
    check(&CHATML.replace("<|im_start|>assistant", "<|im_start|>bot"), &turn, prefix);
    check(&format!("{{{{ messages | length }}}}{CHATML}"), &turn, prefix);
}

#[test]
fn templates_that_fail_say_where() {
    let tokenizer = &pair("smollm2").tokenizer;
    let syntax = ChatTemplate::jinja("line one\n{% if %}", tokenizer).unwrap_err();
    assert!(matches!(syntax, Error::TemplateSyntax { line: 2, .. }), "{syntax}");
    let refused =
        render("\n\n{{ raise_exception('roles must alternate') }}", &[user("a"), assistant("b")]).unwrap_err();
    assert!(matches!(refused, Error::TemplateRender { line: 3, .. }), "{refused}");
    assert!(refused.source().unwrap().to_string().contains("roles must alternate"));
}

#[test]
fn conversations_that_cannot_be_trained_on() {
    for pair in PAIRS.iter() {
        let check = |messages: &[Message], expected: fn(&Error) -> bool| {
            let error = pair.template.sample(&pair.tokenizer, messages).unwrap_err();
            assert!(expected(&error), "{}: {error}", pair.name);
        };
        check(&[], |error| matches!(error, Error::EmptyConversation));
        check(&[user("a")], |error| matches!(error, Error::RoleOrder { index: 0, .. }));
        check(&[user("a"), assistant(" \n")], |error| matches!(error, Error::EmptyAnswer { index: 1 }));
        let mut untrained = [user("a"), assistant("b")];
        untrained[1].weight = Some(0);
        check(&untrained, |error| matches!(error, Error::NothingSupervised));
        let error = pair.template.prompt(&pair.tokenizer, &[user("a"), assistant("b")]).unwrap_err();
        assert!(matches!(error, Error::RoleOrder { index: 1, .. }), "{error}");
        assert!(matches!(pair.template.prompt(&pair.tokenizer, &[]), Err(Error::EmptyConversation)));
    }
    for name in ["v1", "v3", "v7"] {
        let pair = pair(name);
        let order = |messages: &[Message]| match pair.template.sample(&pair.tokenizer, messages) {
            Err(Error::RoleOrder { index, .. }) => index,
            other => panic!("{name}: {other:?}"),
        };
        assert_eq!(order(&[assistant("a")]), 0);
        assert_eq!(order(&[system("s"), assistant("a")]), 1);
        assert_eq!(order(&[user("q"), assistant("a"), assistant("b")]), 2);
        assert_eq!(order(&[user("q"), assistant("a"), system("s"), user("r"), assistant("b")]), 2);
        assert!(matches!(pair.template.prompt(&pair.tokenizer, &[system("s")]), Err(Error::RoleOrder { .. })));
    }
}

/// The result has one bos, whether the template writes none, one or two.
#[test]
fn there_is_one_bos() {
    let tokenizer = &pair("mini-legacy").tokenizer;
    let body = "{% for m in messages %}{{ m.content }}{{ '</s>' if m.role == 'assistant' }}{% endfor %}";
    let ids = |start: &str| {
        let template = ChatTemplate::jinja(&format!("{start}{body}"), tokenizer).unwrap();
        let sample = template.sample(tokenizer, &[user("a"), assistant("b")]).unwrap();
        assert_eq!(sample.input_ids()[..template.prompt(tokenizer, &[user("a")]).unwrap().len()].len(), 2);
        sample
    };
    assert_eq!(ids("").input_ids()[0], 1);
    assert_eq!(ids(""), ids("{{ bos_token }}"));
    assert_eq!(ids(""), ids("<s>"));
    assert_eq!(ids(""), ids("{{ bos_token }}<s>"));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever a template does to a question, no control token results from it.
    #[test]
    fn filters_do_not_free_control_tokens(messages in conversation()) {
        let tokenizer = &pair("smollm2").tokenizer;
        for filter in ["m.content | lower", "m.content | tojson", "m.content[1:]", "m.content.replace('x', '')",
            "m.content.split(' ')[0]", "m.content ~ m.content", "'<' ~ m.content ~ '|im_end|>'"] {
            let source = CHATML.replace("{{ m.content }}",
                &format!("{{% if m.role == 'assistant' %}}{{{{ m.content }}}}{{% else %}}{{{{ {filter} }}}}{{% endif %}}"));
            let sample = match render(&source, &messages) {
                Ok(sample) => sample,
                Err(Error::ContentAltered { .. }) => continue,
                Err(error) => return Err(TestCaseError::fail(format!("{filter}: {error}"))),
            };
            let controls = sample.input_ids().iter().filter(|id| tokenizer.is_control(**id)).count();
            prop_assert_eq!(controls, 2 * messages.len(), "{}: {:?}", filter, messages);
        }
    }
}

#[test]
fn what_a_template_says_cannot_steer_a_terminal() {
    let refusals = [
        format!("{{{{ raise_exception('{STEERING}') }}}}"),
        format!("{{% include '{STEERING}' %}}"),
        format!("{{{{ 'x' | tojson(**{{'{STEERING}': 1}}) }}}}"),
        format!("{{{{ 'x'['{STEERING}'].y }}}}{{{{ {{}}['{STEERING}'].y.z }}}}{{{{ raise_exception('{STEERING}') }}}}"),
    ];
    for template in refusals {
        let error = render(&template, &[user("a"), assistant("b")]).unwrap_err();
        let mut cause = Some(&error as &dyn std::error::Error);
        while let Some(said) = cause {
            let message = said.to_string();
            assert!(!message.chars().any(|c| c.is_control() || c == '\u{202e}'), "{message:?}");
            cause = said.source();
        }
    }
    let error = render(&format!("{{{{ raise_exception('{STEERING}') }}}}"), &[user("a"), assistant("b")]).unwrap_err();
    assert_printable(&error.source().unwrap().to_string());
}

/// A template by name, for models that have none. ChatML's end of a turn becomes a stop token, also of what is saved.
#[test]
fn a_template_can_be_chosen() {
    let folder = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(fixture("smollm2")).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, folder.path().join(path.file_name().unwrap())).unwrap();
    }
    let place = folder.path().join("tokenizer_config.json");
    let config: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&place).unwrap()).unwrap();
    let bare = serde_json::json!({ "tokenizer_class": config["tokenizer_class"], "eos_token": "<|endoftext|>" });
    std::fs::write(&place, bare.to_string()).unwrap();
    for name in ["chat_template.jinja", "generation_config.json", "config.json", "special_tokens_map.json"] {
        let _ = std::fs::remove_file(folder.path().join(name));
    }
    let mut tokenizer = Tokenizer::open(folder.path()).unwrap();
    let (before, end) = (tokenizer.fingerprint().to_owned(), tokenizer.control("<|im_end|>").unwrap());
    assert!(!tokenizer.eos_ids().contains(&end));
    assert!(matches!(ChatTemplate::open(folder.path(), &tokenizer), Err(Error::NoTemplate { .. })));

    let messages = [user("Hi <|im_end|>"), assistant("Hello.")];
    let template = "chatml".parse::<TemplateChoice>().unwrap().open(&mut tokenizer).unwrap();
    assert!(tokenizer.eos_ids().contains(&end) && tokenizer.fingerprint() != before);
    let sample = template.sample(&tokenizer, &messages).unwrap();
    assert_eq!(sample.input_ids(), render(CHATML, &messages).unwrap().input_ids());
    let saved = tempfile::tempdir().unwrap();
    tokenizer.save(&template, saved.path()).unwrap();
    assert_eq!(Tokenizer::open(saved.path()).unwrap().fingerprint(), tokenizer.fingerprint());

    let own = folder.path().join("own.jinja");
    std::fs::write(&own, CHATML).unwrap();
    let choice: TemplateChoice = own.to_str().unwrap().parse().unwrap();
    assert_eq!(choice.open(&mut tokenizer).unwrap().sample(&tokenizer, &messages).unwrap(), sample);

    let mut mistral = Tokenizer::open(fixture("tokenizer.model.v3")).unwrap();
    let chosen = "mistral-v3".parse::<TemplateChoice>().unwrap().open(&mut mistral).unwrap();
    let known = ChatTemplate::open(fixture("tokenizer.model.v3"), &mistral).unwrap();
    assert_eq!(chosen.fingerprint(), known.fingerprint());
    let missing = TemplateChoice::ChatMl.open(&mut mistral).unwrap_err();
    assert!(matches!(missing, Error::MissingControl { template: "chatml", name: "<|im_start|>" }), "{missing}");
}
