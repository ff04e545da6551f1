//! Checks that a Jinja template renders all of a conversation.

use foehn_record::{Message, Role, ToolCall};

use super::calls::arguments;
use super::json::{Json, quote};
use super::marked::{Part, Place};
use super::marks::{Region, Unmarked, altered};
use crate::{Error, Result};

/// Checks that every answer, call and result is complete and in one place, and that the position where the generation of
/// an answer begins is known. Reasoning may be left out of a turn that is not trained, and of a prompt.
pub(super) fn check(unmarked: &Unmarked, places: &[Place], messages: &[Message], prompt: bool) -> Result<()> {
    let mut found: Vec<Vec<&Region>> = places.iter().map(|_| Vec::new()).collect();
    for region in &unmarked.regions {
        if let Some(regions) = found.get_mut(region.place) {
            regions.push(region);
        }
    }
    for (place, regions) in places.iter().zip(&found) {
        let Some(message) = messages.get(place.message) else { continue };
        if !matches!(message.role, Role::Assistant | Role::Tool) {
            continue;
        }
        let text = |region: &Region| unmarked.text.get(region.range.clone()).unwrap_or_default();
        match (regions.as_slice(), place.part) {
            ([], Part::Reasoning) if prompt || !message.is_trained() => {}
            ([], Part::Reasoning) => return Err(cannot("the reasoning of a trained turn", place, REASONING)),
            ([], Part::Name | Part::Argument) => return Err(cannot("the call of a tool", place, TOOLS)),
            ([], Part::Content) if message.role == Role::Tool => {
                return Err(cannot("the result of a tool", place, TOOLS));
            }
            ([region], _) if is_whole(text(region), place, message) => {}
            _ => return Err(altered(messages, place.message)),
        }
    }
    let spans = spans(unmarked, messages.len());
    let answers = messages.iter().zip(spans).enumerate();
    for (index, (message, span)) in answers.filter(|(_, (message, _))| message.role == Role::Assistant) {
        let (first, last) = span.ok_or_else(|| altered(messages, index))?;
        let regions = unmarked.regions.get(first..=last).unwrap_or_default();
        let together = regions.iter().all(|region| region.message == index);
        let opened = regions.first().is_some_and(|region| region.cut.is_some());
        if !together || !opened {
            return Err(altered(messages, index));
        }
        check_scalars(unmarked, index, message, regions, last)?;
    }
    Ok(())
}

/// The first and the last region of each message.
pub(super) fn spans(unmarked: &Unmarked, messages: usize) -> Vec<Option<(usize, usize)>> {
    let mut spans: Vec<Option<(usize, usize)>> = vec![None; messages];
    for (at, region) in unmarked.regions.iter().enumerate() {
        if let Some(span) = spans.get_mut(region.message) {
            *span = Some((span.map_or(at, |(first, _)| first), at));
        }
    }
    spans
}

/// Checks that the template renders every tool: the text has the tool's name, as the template is given it, more often
/// with the tools than without.
pub(super) fn check_tools(names: &[String], with: &str, without: &str) -> Result<()> {
    let cannot = |part| Error::Inexpressible { template: MODELS, part, message: None, other: TOOLS.to_owned() };
    if with == without {
        return Err(cannot("tools"));
    }
    let mut escaped = String::new();
    for name in names {
        escaped.clear();
        quote(name, &mut escaped);
        let escaped = escaped.trim_matches('"');
        if with.matches(escaped).count() <= without.matches(escaped).count() {
            return Err(cannot("all of the tools"));
        }
    }
    Ok(())
}

const MODELS: &str = "model's Jinja";
const TOOLS: &str = "a template with tools, as those of Qwen2.5, Qwen3 and Llama 3.1, or for Mistral's tokenizers mistral-v3 \
                     or a later version";
const REASONING: &str = "a template that renders `reasoning_content` of all turns or for Mistral's tokenizers mistral-v13, \
                         or give the turn weight 0, or end the conversation with it";

fn cannot(part: &'static str, place: &Place, other: &str) -> Error {
    Error::Inexpressible { template: MODELS, part, message: Some(place.message), other: other.to_owned() }
}

/// Whether a region has the text of its place. What is in JSON may be escaped as JSON.
fn is_whole(found: &str, place: &Place, message: &Message) -> bool {
    let text = if message.role == Role::Assistant { place.text.as_str() } else { place.text.trim() };
    let may_escape = message.role == Role::Tool || matches!(place.part, Part::Name | Part::Argument);
    let escaped = || {
        let mut escaped = String::new();
        quote(text, &mut escaped);
        escaped.get(1..escaped.len() - 1) == Some(found)
    };
    found == text || (may_escape && escaped())
}

/// Checks that the numbers, `true`, `false` and `null` among the arguments, which have no marks, are rendered: in
/// JSON's form or in Python's, in their order, and outside of other texts.
fn check_scalars(unmarked: &Unmarked, index: usize, message: &Message, regions: &[Region], last: usize) -> Result<()> {
    let end = unmarked.regions.get(last + 1).map_or(unmarked.text.len(), |next| next.range.start);
    let mut gaps = String::new();
    for (at, region) in regions.iter().enumerate() {
        let until = regions.get(at + 1).map_or(end, |next| next.range.start);
        gaps.push_str(unmarked.text.get(region.range.end..until).unwrap_or_default());
        gaps.push('\n');
    }
    let mut rest = gaps.as_str();
    for scalar in scalars(index, &message.tool_calls)? {
        let python = match scalar.as_str() {
            "true" => "True",
            "false" => "False",
            "null" => "None",
            other => other,
        };
        let place = [scalar.as_str(), python].into_iter().filter_map(|form| Some((rest.find(form)?, form.len()))).min();
        let (at, length) = place.ok_or(Error::ContentAltered { index, role: message.role })?;
        rest = rest.get(at + length..).unwrap_or_default();
    }
    Ok(())
}

fn scalars(index: usize, calls: &[ToolCall]) -> Result<Vec<String>> {
    fn collect(json: &Json, found: &mut Vec<String>) {
        match json {
            Json::Scalar(scalar) => found.push(scalar.clone()),
            Json::Text(_) => {}
            Json::List(items) => items.iter().for_each(|item| collect(item, found)),
            Json::Map(entries) => entries.iter().for_each(|(_, value)| collect(value, found)),
        }
    }
    let mut found = Vec::new();
    for call in calls {
        collect(&arguments(index, call)?, &mut found);
    }
    Ok(found)
}
