//! Templates that try to abort, hang or fill memory. Each runs in its own process, whose memory and processor time the
//! system limits, and must end with an error or a sample.

mod common;

use std::process::Command;

use common::{assistant, fixture, user};
use foehn_tokens::{ChatTemplate, Error, Tokenizer};

/// The variable that tells a process which template to run.
const INDEX: &str = "FOEHN_HOSTILE_TEMPLATE";
/// The largest resident memory, in KiB.
const RESIDENT: u64 = 256 * 1024;

/// A template: its beginning, the part that is repeated and how often, its end.
type Hostile = (&'static str, &'static str, usize, &'static str);

const OUT_OF_BOUNDS: &[Hostile] = &[
    // Values that contain themselves.
    ("{% set n = namespace() %}{% set n.n = n %}{{ n }}", "", 0, ""),
    ("{% set n = namespace() %}{% set n.n = [n] %}{{ n }}", "", 0, ""),
    ("{% set n = namespace() %}{% set n.n = {'a': n} %}{{ n | tojson }}", "", 0, ""),
    ("{% set n = namespace() %}{% set n.n = (n, n) %}{{ n.n | string }}", "", 0, ""),
    ("{% set n = namespace() %}{% set n.n = dict(a=n) %}{{ n.n }}", "", 0, ""),
    ("{% set n = namespace() %}{% set n.n = namespace(m=n) %}{{ n.n }}", "", 0, ""),
    ("{% set n = namespace() %}{% macro m() %}{{ n }}{% endmacro %}{% set n.n = m %}{{ n.n }}", "", 0, ""),
    ("{% set n = namespace(l=[]) %}{% set n.l = [1] | map('default', n, true) | list + [n] %}{{ n.l }}", "", 0, ""),
    ("{% set n = namespace(x=1) %}{% set m = namespace(n=n) %}{% set n.x = m %}{{ n.x == m }}", "", 0, ""),
    ("{% set n = namespace(l=[]) %}{% for i in range(100000) %}{% set n.l = [n.l] %}{% endfor %}", "", 0, ""),
    ("{% set n = namespace(l={}) %}{% for i in range(100000) %}{% set n.l = {'a': n.l} %}{% endfor %}", "", 0, ""),
    ("{% set n = namespace(l=()) %}{% for i in range(100000) %}{% set n.l = (n.l,) %}{% endfor %}", "", 0, ""),
    // Very long loops.
    ("", "{% for a in range(100000) %}", 4, "x{% endfor %}{% endfor %}{% endfor %}{% endfor %}"),
    ("{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}", "", 0, ""),
    ("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "", 0, ""),
    ("{% macro m(a) %}{{ m(a ~ a) }}{% endmacro %}{{ m('abc') }}", "", 0, ""),
    ("{% macro m(n) %}{{ m(n - 1) ~ m(n - 1) if n else 'x' }}{% endmacro %}{{ m(60) }}", "", 0, ""),
    ("{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}", "", 0, ""),
    ("{% for x in [1, 2] recursive %}{{ loop([1, 2]) }}{% endfor %}", "", 0, ""),
    ("{% for a in range(100000) %}{{ range(100000) | list | length }}{% endfor %}", "", 0, ""),
    ("{% for a in range(100000) %}{{ range(100000) | sum }}{% endfor %}", "", 0, ""),
    ("{% for a in range(100000) %}{{ -1 in range(100000) }}{% endfor %}", "", 0, ""),
    ("{% set l = range(100000) | list %}{% for a in l %}{{ l | sort | length }}{% endfor %}", "", 0, ""),
    ("{% set l = range(100000) | list %}{% for a in l %}{{ l == l | list }}{% endfor %}", "", 0, ""),
    ("{% set l = range(100000) | list %}{% for a in l %}{{ l[::-1] | length }}{% endfor %}", "", 0, ""),
    ("{% set l = range(100000) | list %}{% for a in l %}{{ l | unique | list | length }}{% endfor %}", "", 0, ""),
    ("{{ range(10 ** 18) | length }}", "", 0, ""),
    // Text and lists that grow.
    ("{% set n = namespace(s='abc') %}{% for i in range(60) %}{% set n.s = n.s ~ n.s %}{% endfor %}", "", 0, ""),
    ("{% set n = namespace(s='abc') %}{% for i in range(60) %}{% set n.s = n.s + n.s %}{% endfor %}", "", 0, ""),
    (
        "{% set n = namespace(s='abc') %}{% for i in range(60) %}{% set n.s %}{{ n.s }}{{ n.s }}{% endset %}{% endfor %}",
        "",
        0,
        "",
    ),
    ("{% set n = namespace(s='abc') %}{% for i in range(60) %}{% set n.s = n.s * 9 %}{% endfor %}", "", 0, ""),
    (
        "{% set n = namespace(s='abc') %}{% for i in range(60) %}{% set n.s = n.s | replace('a', n.s) %}{% endfor %}",
        "",
        0,
        "",
    ),
    (
        "{% set n = namespace(s='abc') %}{% for i in range(60) %}{% set n.s = n.s.replace('', n.s) %}{% endfor %}",
        "",
        0,
        "",
    ),
    (
        "{% set n = namespace(s='abc') %}{% for i in range(60) %}{% set n.s = [n.s, n.s, n.s] | join(n.s) %}{% endfor %}",
        "",
        0,
        "",
    ),
    (
        "{% set n = namespace(s='abc') %}{% for i in range(60) %}{% set n.s = n.s.join([n.s, n.s, n.s]) %}{% endfor %}",
        "",
        0,
        "",
    ),
    (
        "{% set n = namespace(s='abc') %}{% for i in range(60) %}{% set n.s = '%s%s' | format(n.s, n.s) %}{% endfor %}",
        "",
        0,
        "",
    ),
    (
        "{% set n = namespace(s='abc') %}{% for i in range(60) %}{% set n.s = '{0}{0}{0}'.format(n.s) %}{% endfor %}",
        "",
        0,
        "",
    ),
    (
        "{% set n = namespace(l=[1]) %}{% for i in range(60) %}{% set n.l = n.l + n.l %}{% endfor %}{{ n.l | length }}",
        "",
        0,
        "",
    ),
    (
        "{% set n = namespace(l=[1]) %}{% for i in range(60) %}{% set n.l = [n.l, n.l] %}{% endfor %}{{ n.l }}",
        "",
        0,
        "",
    ),
    (
        "{% set n = namespace(l=[1]) %}{% for i in range(60) %}{% set n.l = [n.l, n.l] %}{% endfor %}{{ n.l == [n.l] }}",
        "",
        0,
        "",
    ),
    (
        "{% set n = namespace(l=[1]) %}{% for i in range(60) %}{% set n.l = {'a': n.l, 'b': n.l} %}{% endfor %}{{ n.l | tojson }}",
        "",
        0,
        "",
    ),
    (
        "{% set n = namespace(l=[1]) %}{% for i in range(60) %}{% set n.l = n.l * 9 %}{% endfor %}{{ n.l | string }}",
        "",
        0,
        "",
    ),
    (
        "{% set n = namespace(l=[]) %}{% for i in range(100000) %}{% set n.l = n.l + ['x' * 10000 ~ i] %}{% endfor %}",
        "",
        0,
        "",
    ),
    ("{% for i in range(100000) %}{{ 'x' * 10000 }}{% endfor %}", "", 0, ""),
    ("{% for i in range(100000) %}", "long literal text ", 5000, "{% endfor %}"),
    ("{% set s %}{% for i in range(100000) %}", "long literal text ", 5000, "{% endfor %}{% endset %}"),
    ("{{ 'a' * 10 ** 9 }}", "", 0, ""),
    ("{{ 'a' * 1000000000 }}", "", 0, ""),
    ("{{ 1000000000 * ['a'] }}", "", 0, ""),
    ("", "{{ 'a' * 99000000 }}", 60, ""),
    ("", "{{ ('a' * 9999) * 9999 }}", 60, ""),
    ("{% set n = 1000000000 %}{{ 'a' * n }}", "", 0, ""),
    ("{% set n = 1000000000 %}{{ [1, 2] * n }}", "", 0, ""),
    // Huge arguments.
    ("{{ messages | tojson(indent=9000000000000000000) }}", "", 0, ""),
    ("{{ messages | tojson(indent=100000000) }}", "", 0, ""),
    ("{{ '%1000000000d' | format(1) }}", "", 0, ""),
    ("{{ '%.1000000000f' | format(1.5) }}", "", 0, ""),
    ("{{ '%*d' | format(1000000000, 1) }}", "", 0, ""),
    ("{{ '{:>1000000000}'.format(1) }}", "", 0, ""),
    ("{{ '{:>{}}'.format(1, 1000000000) }}", "", 0, ""),
    ("{{ 'a\nb' | indent(1000000000) }}", "", 0, ""),
    ("{{ 'a\nb' | indent(width=1000000000) }}", "", 0, ""),
    ("{{ [1] | batch(1000000000, 'x') | list }}", "", 0, ""),
    ("{{ [1] | slice(1000000000) | list }}", "", 0, ""),
    ("{{ [1] | slice(1000000000, 'x') | list }}", "", 0, ""),
    ("{{ 'x'.ljust(1000000000) }}", "", 0, ""),
    ("{{ 'x'.zfill(1000000000) }}", "", 0, ""),
    ("{{ 'x'.center(1000000000) }}", "", 0, ""),
    ("{{ 'x' | center(1000000000) }}", "", 0, ""),
    ("{{ '\t'.expandtabs(1000000000) }}", "", 0, ""),
    ("{{ lipsum(1000000000) }}", "", 0, ""),
    ("{{ debug() }}{{ messages | pprint }}", "", 0, ""),
    ("{{ dict(*range(100000)) }}", "", 0, ""),
    // Deeply nested source.
    ("{{ 1", " + 1", 50_000, " }}"),
    ("{{ messages", " ~ messages", 50_000, " }}"),
    ("{{ ", "(", 50_000, "1"),
    ("{{ ", "[", 50_000, "1"),
    ("{{ ", "{'a': ", 50_000, "1"),
    ("{{ ", "not ", 50_000, "1 }}"),
    ("{{ ", "-", 50_000, "1 }}"),
    ("{{ 2", " ** 2", 50_000, " }}"),
    ("{{ 1", " if 1 else 1", 50_000, " }}"),
    ("{{ x", ".x", 50_000, " }}"),
    ("{{ x", "[0]", 50_000, " }}"),
    ("{{ x", "(1)", 50_000, " }}"),
    ("{{ x", " | list", 50_000, " }}"),
    ("{{ 1", " < 2", 50_000, " }}"),
    ("{{ x", " and x", 50_000, " }}"),
    ("{{ x", " is defined", 50_000, " }}"),
    ("", "{% if 1 %}", 50_000, ""),
    ("", "{% for x in [1] %}", 50_000, ""),
    ("{% if 1 %}", "{% elif 1 %}", 50_000, "{% endif %}"),
    ("", "{% set x %}", 50_000, ""),
    ("", "{% macro m() %}", 50_000, ""),
    ("{{ f", "(f", 50_000, ""),
    ("", "{% filter upper %}", 50_000, ""),
    ("", "{% with %}", 50_000, ""),
    // The deepest nesting that is still parsed.
    ("{{ 1", " + x", 1_900, " }}"),
    ("{{ ", "not ", 3_900, "1 }}"),
    ("{{ x", " ~ x", 1_900, " }}"),
    ("{{ x", ".x", 1_900, " }}"),
    ("{{ 'x'", " | upper", 1_900, " }}"),
    ("{{ 2", " ** x", 1_900, " }}"),
    ("{% if 1 %}", "{% elif 1 %}", 900, "{% endif %}"),
];

fn source((first, repeated, count, last): &Hostile) -> String {
    format!("{first}{}{last}", repeated.repeat(*count))
}

/// Runs in its own process.
#[test]
fn a_hostile_template_alone() {
    let Some(index) = std::env::var(INDEX).ok().and_then(|index| index.parse::<usize>().ok()) else { return };
    let tokenizer = Tokenizer::open(fixture("mini-first")).unwrap();
    let made = ChatTemplate::jinja(&source(&OUT_OF_BOUNDS[index]), &tokenizer)
        .and_then(|template| template.sample(&tokenizer, &[user("Hi"), assistant("Yo")]));
    let error = made.unwrap_err();
    assert!(
        matches!(
            error,
            Error::TemplateSyntax { .. }
                | Error::TemplateRender { .. }
                | Error::ContentAltered { .. }
                | Error::StopTokenUntrained { .. }
        ),
        "{error}"
    );
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
    let peak: u64 = peak.split_whitespace().next().and_then(|peak| peak.parse().ok()).unwrap_or(0);
    assert!(peak < RESIDENT, "{peak} KiB were resident");
}

#[test]
fn hostile_templates_end_in_errors() {
    assert!(OUT_OF_BOUNDS.len() >= 50);
    let mut failed = Vec::new();
    for (index, hostile) in OUT_OF_BOUNDS.iter().enumerate() {
        let program = std::env::current_exe().unwrap();
        let limited =
            "ulimit -v 1500000; ulimit -t 20; ulimit -c 0; exec \"$0\" --exact a_hostile_template_alone --nocapture";
        let output =
            Command::new("sh").args(["-c", limited]).arg(program).env(INDEX, index.to_string()).output().unwrap();
        if !output.status.success() {
            let said: String = String::from_utf8_lossy(&output.stderr).chars().take(600).collect();
            failed.push(format!("{index} {:.100}: {}: {said}", source(hostile), output.status));
        }
    }
    assert!(failed.is_empty(), "{} of {}:\n{}", failed.len(), OUT_OF_BOUNDS.len(), failed.join("\n"));
}
