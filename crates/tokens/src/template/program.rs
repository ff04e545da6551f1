//! Runs a template as a program with limits.
//!
//! Before a template is parsed, its tokens are counted. This limits the depth of parsing and the size of folded
//! constants. The compiled instructions are then rewritten: every value that can become large, or be compared or
//! repeated, first passes through a filter that charges it to the render's [budget](super::budget). The program runs
//! with limited fuel, on a thread with its own stack size.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use minijinja::machinery::{
    CodeGenerator, Instruction, Instructions, Token, eval, make_string_output, parse, tokenize,
};
use minijinja::syntax::SyntaxConfig;
use minijinja::{AutoEscape, Environment, Error, ErrorKind, Value};

use super::budget::{self, Budget};
use super::functions::{environment, without_generation_tags};

/// The name of the template in the engine.
const NAME: &str = "chat_template";
const MAX_SOURCE: usize = 1 << 20;
const MAX_TOKENS: usize = 200_000;
/// Within one tag, operators can be nested as deep as their number, and so can the arms of one `if`.
const MAX_TAG_TOKENS: usize = 4_000;
const MAX_ELIF: usize = 1_000;
/// The largest cost of folding all constants, in bytes.
const MAX_FOLDED: u64 = 100_000_000;
const STACK: usize = 64 << 20;
/// The fuel, steps and bytes of every render, and the amounts added for each message and each byte of the conversation.
const BASE: (u64, u64) = (1_500_000, 48 << 20);
const EACH: (u64, u64) = (2_000, 8);

/// A compiled template with its engine.
pub(super) struct Program {
    environment: Environment<'static>,
    instructions: Instructions<'static>,
}

impl std::fmt::Debug for Program {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Program").finish_non_exhaustive()
    }
}

impl Program {
    pub fn new(source: &str) -> Result<Self, Error> {
        if source.len() > MAX_SOURCE {
            return Err(refused(format!("the template has {} bytes, at most {MAX_SOURCE} are read", source.len())));
        }
        let source = kept(without_generation_tags(source));
        check_tokens(source)?;
        let instructions = on_own_stack(|| {
            let tree = parse(source, NAME, syntax()?)?;
            let mut generator = CodeGenerator::new(NAME, source);
            generator.compile_stmt(&tree);
            metered(&generator.finish().0)
        })?;
        Ok(Self { environment: environment(), instructions })
    }

    /// Renders a conversation of the given number of messages and bytes.
    pub fn render(&self, variables: Value, messages: usize, bytes: usize) -> Result<String, Error> {
        let steps = BASE.0 + EACH.0 * messages as u64;
        let budget = Budget { steps, bytes: BASE.1 + EACH.1 * (bytes as u64 + 256 * messages as u64) };
        let mut environment = self.environment.clone();
        environment.set_fuel(Some(steps));
        on_own_stack(move || {
            budget::set(budget);
            let mut text = String::new();
            let blocks = BTreeMap::new();
            let mut output = make_string_output(&mut text);
            eval(&environment, &self.instructions, variables, &blocks, &mut output, AutoEscape::None)?;
            Ok(text)
        })
    }
}

fn syntax() -> Result<SyntaxConfig, Error> {
    SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()
}

fn refused(message: String) -> Error {
    Error::new(ErrorKind::SyntaxError, message)
}

/// Keeps the source until the process ends, because compiled instructions borrow from it. Each distinct source is kept
/// once.
fn kept(source: String) -> &'static str {
    static SOURCES: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());
    let mut sources = SOURCES.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = sources.get(source.as_str()) {
        return known;
    }
    let source: &'static str = Box::leak(source.into_boxed_str());
    sources.insert(source);
    source
}

/// Runs on a thread whose stack is large enough for everything within the limits.
fn on_own_stack<T: Send>(work: impl FnOnce() -> Result<T, Error> + Send) -> Result<T, Error> {
    let failed = |message: &'static str| Error::new(ErrorKind::InvalidOperation, message);
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(STACK).spawn_scoped(scope, work);
        let thread = thread.map_err(|error| failed("the system gives no thread for it").with_source(error))?;
        thread.join().unwrap_or_else(|_| Err(failed("the template broke its engine")))
    })
}

/// Refuses templates that would be parsed too deeply, or that fold into large constants.
fn check_tokens(source: &str) -> Result<(), Error> {
    let (mut tokens, mut elifs, mut folded) = (0_usize, 0_usize, 0_u64);
    let mut tag = Tag::default();
    for token in tokenize(source, false, syntax()?) {
        let (token, span) = token?;
        tokens += 1;
        elifs += usize::from(matches!(token, Token::Ident("elif")));
        tag.push(&token);
        if matches!(token, Token::BlockEnd | Token::VariableEnd) {
            folded = folded.saturating_add(std::mem::take(&mut tag).folded());
        }
        let checks = [
            (tag.tokens > MAX_TAG_TOKENS, "one tag has too many operators and values"),
            (elifs > MAX_ELIF, "it has too many `elif`"),
            (tokens > MAX_TOKENS, "it has too many tags"),
            (folded > MAX_FOLDED, "its constants multiply to too large a value"),
        ];
        if let Some((_, message)) = checks.into_iter().find(|(exceeded, _)| *exceeded) {
            return Err(refused(format!("{message} (line {})", span.start_line)));
        }
    }
    Ok(())
}

/// The counts of the current tag.
#[derive(Default)]
struct Tag {
    tokens: usize,
    literal: u64,
    numbers: u64,
    multiplies: bool,
}

impl Tag {
    fn push(&mut self, token: &Token<'_>) {
        self.tokens += 1;
        let number = |value: u64| value.saturating_add(1);
        let text = match token {
            Token::TemplateData(_) => {
                self.tokens = 0;
                return;
            }
            Token::Str(text) => text.len(),
            Token::String(text) => text.len(),
            Token::Int(value) => return self.numbers = self.numbers.max(1).saturating_mul(number(*value)),
            Token::Int128(_) => return self.numbers = u64::MAX,
            Token::Mul | Token::Pow => {
                // A power of small numbers may be large.
                self.numbers = if matches!(token, Token::Pow) { u64::MAX } else { self.numbers };
                self.multiplies = true;
                return;
            }
            _ => 1,
        };
        self.literal += text as u64;
    }

    /// An upper bound of the number of bytes that are copied while the tag's constants are folded.
    fn folded(&self) -> u64 {
        let factor = if self.multiplies { self.numbers.max(1) } else { 1 };
        self.literal.saturating_mul(factor).saturating_mul(1 + self.tokens as u64 / 8)
    }
}

/// The instructions with the checks inserted.
fn metered(plain: &Instructions<'static>) -> Result<Instructions<'static>, Error> {
    let parts: Vec<(Instruction<'static>, usize)> =
        (0..).map_while(|at| Some((plain.get(at)?.clone(), plain.get_line(at).unwrap_or(0)))).collect();
    let mut places = Vec::with_capacity(parts.len() + 1);
    let mut expanded = Vec::with_capacity(2 * parts.len());
    for (instruction, line) in parts {
        places.push(expanded.len() as u32);
        expand(instruction, &mut |instruction| expanded.push((instruction, line)))?;
    }
    places.push(expanded.len() as u32);
    let place = |old: u32| places.get(old as usize).copied().unwrap_or(old);
    let mut metered = Instructions::new(NAME, plain.source());
    for (instruction, line) in expanded {
        let moved = match instruction {
            Instruction::Jump(to) => Instruction::Jump(place(to)),
            Instruction::JumpIfFalse(to) => Instruction::JumpIfFalse(place(to)),
            Instruction::JumpIfFalseOrPop(to) => Instruction::JumpIfFalseOrPop(place(to)),
            Instruction::JumpIfTrueOrPop(to) => Instruction::JumpIfTrueOrPop(place(to)),
            Instruction::Iterate(to) => Instruction::Iterate(place(to)),
            Instruction::BuildMacro(name, to, flags) => Instruction::BuildMacro(name, place(to), flags),
            other => other,
        };
        metered.add_with_line(moved, u16::try_from(line).unwrap_or(u16::MAX));
    }
    Ok(metered)
}

/// Emits one instruction with the checks before and after it.
fn expand(plain: Instruction<'static>, put: &mut dyn FnMut(Instruction<'static>)) -> Result<(), Error> {
    let check = |name: &'static str, values: u16| Instruction::ApplyFilter(name, Some(values), !0);
    let second = |put: &mut dyn FnMut(_), name| {
        put(Instruction::Swap);
        put(check(name, 1));
        put(Instruction::Swap);
    };
    match plain {
        Instruction::EmitRaw(text) => {
            put(Instruction::LoadConst(Value::from(text)));
            put(Instruction::Emit);
        }
        Instruction::Add | Instruction::Mul | Instruction::StringConcat => {
            second(put, "@note");
            match plain {
                Instruction::Add => put(check("@add", 1)),
                Instruction::Mul => put(check("@mul", 1)),
                _ => put(check("@concat", 1)),
            }
            put(plain);
            put(check("@settle", 1));
        }
        Instruction::Eq
        | Instruction::Ne
        | Instruction::Gt
        | Instruction::Gte
        | Instruction::Lt
        | Instruction::Lte
        | Instruction::In
        | Instruction::CompareAndPreserve(_) => {
            put(check("@charge", 1));
            put(plain);
        }
        Instruction::GetItem => {
            second(put, "@touch");
            put(plain);
        }
        Instruction::PushLoop(_) | Instruction::UnpackList(_) => {
            put(check("@touch", 1));
            put(plain);
        }
        Instruction::Slice => put(check("@slice", 4)),
        Instruction::BuildList(_) | Instruction::BuildTuple(_) | Instruction::BuildMap(_) => {
            put(plain);
            put(check("@made", 1));
        }
        Instruction::SetAttr(name) => {
            put(Instruction::LoadConst(Value::from(name)));
            put(check("@set", 3));
            put(Instruction::DiscardTop);
        }
        Instruction::UnpackLists(_) | Instruction::MergeKwargs(_) => {
            return Err(refused("arguments that are spread with `*` or `**` are not supported".to_owned()));
        }
        Instruction::PushAutoEscape => return Err(refused("`autoescape` is not supported".to_owned())),
        Instruction::CallBlock(_)
        | Instruction::LoadBlocks
        | Instruction::Include(_)
        | Instruction::ExportLocals
        | Instruction::FastSuper => {
            return Err(refused("blocks and other templates are not supported".to_owned()));
        }
        other => put(other),
    }
    Ok(())
}
