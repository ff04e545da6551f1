//! Patterns for module names, with PEFT's meaning. Each is compiled once.

use std::collections::BTreeMap;

use fancy_regex::Regex;
use foehn_files::printable;
use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use crate::{Error, LoraConfig, TargetModules};

/// Values by pattern, in the order of the file. If several patterns match a name, the first one is used.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Patterns<T>(IndexMap<String, T>);

impl<T> Default for Patterns<T> {
    fn default() -> Self {
        Self(IndexMap::new())
    }
}

/// The order of the patterns is compared too, because it can change the result.
impl<T: PartialEq> PartialEq for Patterns<T> {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_slice() == other.0.as_slice()
    }
}

impl<T> FromIterator<(String, T)> for Patterns<T> {
    fn from_iter<I: IntoIterator<Item = (String, T)>>(pairs: I) -> Self {
        Self(pairs.into_iter().collect())
    }
}

impl<T> Patterns<T> {
    /// The patterns and their values, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &T)> {
        self.0.iter().map(|(pattern, value)| (pattern.as_str(), value))
    }

    /// The values, in order.
    pub fn values(&self) -> impl ExactSizeIterator<Item = &T> {
        self.0.values()
    }

    /// Whether there is no pattern.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Compiles every pattern; they are matched against the end of a name (PEFT's `get_pattern_key`).
    pub(crate) fn compile(&self, field: &'static str) -> Result<Endings<'_, T>, Error> {
        let one = |(pattern, value)| Ok((Matcher::new(field, pattern, &format!(r"^(.*\.)?({pattern})$"))?, value));
        Ok(Endings { field, list: self.iter().map(one).collect::<Result<_, Error>>()? })
    }
}

/// Compiled patterns for the ends of names, with their values.
pub(crate) struct Endings<'a, T> {
    field: &'static str,
    list: Vec<(Matcher<'a>, &'a T)>,
}

impl<T: Copy> Endings<'_, T> {
    /// The value of the first pattern that matches.
    pub fn first(&self, module: &str) -> Result<Option<T>, Error> {
        for (matcher, value) in &self.list {
            if matcher.is_match(module)? {
                return Ok(Some(**value));
            }
        }
        Ok(None)
    }

    /// Refuses a pattern that matches none of the names.
    fn check(&self, names: &[&str]) -> Result<(), Error> {
        for (matcher, _) in &self.list {
            matched(self.field, matcher.pattern, names, |name| matcher.is_match(name))?;
        }
        Ok(())
    }
}

/// One compiled pattern.
pub(crate) struct Matcher<'a> {
    pattern: &'a str,
    regex: Regex,
}

impl<'a> Matcher<'a> {
    fn new(field: &'static str, pattern: &'a str, anchored: &str) -> Result<Self, Error> {
        // The regex compiler's message quotes the pattern without escapes. No module name has such a character, so it
        // is refused here.
        if printable(pattern).to_string() != pattern {
            return Err(Error::Setting { field, found: pattern.to_owned(), expected: "no control characters" });
        }
        let regex = Regex::new(anchored).map_err(|source| broken(pattern, source))?;
        Ok(Self { pattern, regex })
    }

    pub fn is_match(&self, module: &str) -> Result<bool, Error> {
        self.regex.is_match(module).map_err(|source| broken(self.pattern, source))
    }
}

impl Matcher<'_> {
    /// The number that the group `index` matches.
    fn index(&self, module: &str) -> Result<Option<usize>, Error> {
        let found = self.regex.captures(module).map_err(|source| broken(self.pattern, source))?;
        Ok(found.and_then(|found| found.name("index")?.as_str().parse().ok()))
    }
}

/// A pattern that is matched against a whole name.
pub(crate) fn whole<'a>(field: &'static str, pattern: &'a str) -> Result<Matcher<'a>, Error> {
    Matcher::new(field, pattern, &format!("^(?:{pattern})$"))
}

/// Whether a name is the entry, or ends in a dot followed by the entry.
pub(crate) fn ends_in(module: &str, entry: &str) -> bool {
    module.strip_suffix(entry).is_some_and(|head| head.is_empty() || head.ends_with('.'))
}

/// Whether a name belongs to the embedding or the head, which cannot have adapters.
pub(crate) fn is_outer(name: &str) -> bool {
    name.split('.').any(|part| ["lm_head", "embed_tokens"].contains(&part))
}

/// The rank and scale of a layer's adapter.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Place {
    pub rank: usize,
    pub scale: f64,
}

/// The patterns of an adapter's settings, compiled.
pub(crate) struct Compiled<'a> {
    config: &'a LoraConfig,
    target: Option<Matcher<'a>>,
    excluded: Option<Matcher<'a>>,
    /// For the index of a decoder layer in a name.
    layers: Vec<Matcher<'a>>,
    rank: Endings<'a, usize>,
    alpha: Endings<'a, f64>,
}

impl<'a> Compiled<'a> {
    pub fn new(config: &'a LoraConfig) -> Result<Self, Error> {
        let regex = |field, modules: Option<&'a TargetModules>| match modules {
            Some(TargetModules::Regex(pattern)) => whole(field, pattern).map(Some),
            _ => Ok(None),
        };
        let target = regex("target_modules", Some(&config.target_modules))?;
        let excluded = regex("exclude_modules", config.exclude_modules.as_ref())?;
        let layer = |pattern: &'a String| {
            Matcher::new("layers_pattern", pattern, &format!(r"^(?:.*?\.)?(?:{pattern})\.(?P<index>\d+)\."))
        };
        let mut layers = config.layers_pattern.iter().map(layer).collect::<Result<Vec<_>, _>>()?;
        if layers.is_empty() {
            layers.push(Matcher::new("layers_pattern", "", r"^.*?\.[^.]*\.(?P<index>\d+)\.")?);
        }
        let rank = config.rank_pattern.compile("rank_pattern")?;
        let alpha = config.alpha_pattern.compile("alpha_pattern")?;
        let compiled = Self { config, target, excluded, layers, rank, alpha };
        let listed = match &config.target_modules {
            TargetModules::Suffixes(list) => list.iter().find(|entry| is_outer(entry)).map(String::as_str),
            _ => None,
        };
        let outer = ["lm_head", "model.embed_tokens"];
        let matched = outer.map(|name| compiled.target.as_ref().map_or(Ok(false), |regex| regex.is_match(name)));
        for (name, matched) in outer.into_iter().zip(matched) {
            if matched? {
                return Err(Error::UnsupportedLayer { name: name.to_owned() });
            }
        }
        listed.map_or(Ok(compiled), |name| Err(Error::UnsupportedLayer { name: name.to_owned() }))
    }

    /// The targets among a model's layers. Every entry of every setting must match something.
    pub fn places<'n>(&self, layers: &[&'n str]) -> Result<BTreeMap<&'n str, Place>, Error> {
        let mut places = BTreeMap::new();
        for &name in layers {
            if self.is_target(name)? {
                places.insert(name, self.place(name)?);
            }
        }
        if places.is_empty() {
            return Err(Error::NoTarget {
                targets: serde_json::to_string(&self.config.target_modules).unwrap_or_default(),
                example: layers.first().copied().unwrap_or_default().to_owned(),
            });
        }
        if let TargetModules::Suffixes(list) = &self.config.target_modules {
            for entry in list {
                matched("target_modules", entry, layers, |name| Ok(ends_in(name, entry)))?;
            }
        }
        if let Some(TargetModules::Suffixes(list)) = &self.config.exclude_modules {
            for entry in list {
                matched("exclude_modules", entry, layers, |name| Ok(ends_in(name, entry)))?;
            }
        }
        for index in &self.config.layers_to_transform {
            matched("layers_to_transform", &index.to_string(), layers, |name| Ok(self.index(name)? == Some(*index)))?;
        }
        let targets: Vec<&str> = places.keys().copied().collect();
        self.rank.check(&targets)?;
        self.alpha.check(&targets)?;
        Ok(places)
    }

    /// Whether a layer gets an adapter, as PEFT's `check_target_module_exists` says.
    pub fn is_target(&self, name: &str) -> Result<bool, Error> {
        let matches = |regex: &Option<Matcher<'_>>, modules: &TargetModules| match regex {
            Some(regex) => regex.is_match(name),
            None => modules.matches(name),
        };
        if let Some(excluded) = &self.config.exclude_modules
            && matches(&self.excluded, excluded)?
        {
            return Ok(false);
        }
        let target = &self.config.target_modules;
        let is_listed = matches!(target, TargetModules::Suffixes(list) if list.iter().any(|entry| entry == name));
        if self.config.layers_to_transform.is_empty() || is_listed {
            return matches(&self.target, target);
        }
        let is_transformed = self.index(name)?.is_some_and(|index| self.config.layers_to_transform.contains(&index));
        Ok(is_transformed && matches(&self.target, target)?)
    }

    /// The index of the decoder layer that a name has.
    fn index(&self, name: &str) -> Result<Option<usize>, Error> {
        for matcher in &self.layers {
            if let Some(index) = matcher.index(name)? {
                return Ok(Some(index));
            }
        }
        Ok(None)
    }

    /// The rank and scale of a layer's adapter, if the layer has one.
    pub fn place(&self, name: &str) -> Result<Place, Error> {
        let rank = self.rank.first(name)?.unwrap_or(self.config.r);
        let alpha = self.alpha.first(name)?.unwrap_or(self.config.lora_alpha);
        Ok(Place { rank, scale: self.config.scale_of(alpha, rank) })
    }
}

fn matched(
    field: &'static str,
    entry: &str,
    names: &[&str],
    is_match: impl Fn(&str) -> Result<bool, Error>,
) -> Result<(), Error> {
    for name in names {
        if is_match(name)? {
            return Ok(());
        }
    }
    let example = names.first().copied().unwrap_or_default().to_owned();
    Err(Error::Unmatched { field, entry: entry.to_owned(), example })
}

fn broken(pattern: &str, source: fancy_regex::Error) -> Error {
    Error::Pattern { pattern: pattern.to_owned(), source: Box::new(source) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAYERS: [&str; 4] = [
        "model.layers.0.self_attn.q_proj",
        "model.layers.0.mlp.up_proj",
        "model.layers.1.self_attn.q_proj",
        "model.layers.1.mlp.up_proj",
    ];

    fn config(text: &str) -> LoraConfig {
        serde_json::from_str(text).unwrap()
    }

    /// Expected values from PEFT 0.21's `get_pattern_key`: the first key in file order for which
    /// `re.match(rf"(.*\.)?({key})$", name)`.
    #[test]
    fn the_first_pattern_in_the_files_order_counts_and_saving_keeps_the_order() {
        let q0 = LAYERS[0];
        let wide_first = r#"{"q_proj": 4, "layers.0.self_attn.q_proj": 2}"#;
        let wide =
            config(&format!(r#"{{"rank_pattern": {wide_first}, "alpha_pattern": {{"z|.*q_proj": 8, "a.*": 1}}}}"#));
        assert_eq!((wide.rank(q0).unwrap(), wide.scale(q0).unwrap()), (4, 2.0));
        assert_eq!(
            serde_json::to_string(&wide.rank_pattern).unwrap(),
            wide_first.replace(": ", ":").replace(", ", ",")
        );
        let narrow = config(r#"{"rank_pattern": {"layers.0.self_attn.q_proj": 2, "q_proj": 4}}"#);
        assert_eq!(narrow.rank(q0).unwrap(), 2);
        assert_eq!(narrow.rank(LAYERS[2]).unwrap(), 4);
        assert_ne!(wide.rank_pattern, narrow.rank_pattern);
        let (ab, ba) = (r#"{"q_proj": 1, "up_proj": 2}"#, r#"{"up_proj": 2, "q_proj": 1}"#);
        let read = |text: &str| serde_json::from_str::<Patterns<usize>>(text).unwrap();
        assert_ne!(read(ab), read(ba), "an order is part of what was asked for");
        // A pattern matches a whole component of the name, not the end of one. The alternatives of a pattern are
        // grouped.
        assert_eq!(config(r#"{"rank_pattern": {"proj": 4}}"#).rank(q0).unwrap(), 8);
        assert_eq!(config(r#"{"rank_pattern": {"k_proj|q_proj": 4}}"#).rank(q0).unwrap(), 4);
        assert_eq!(config(r#"{"rank_pattern": {"self_attn": 4}}"#).rank(q0).unwrap(), 8);
    }

    #[test]
    fn an_entry_that_matches_nothing_is_named() {
        for (text, expected, found) in [
            (r#"{"target_modules": ["q_proj", "c_attn"]}"#, "target_modules", "c_attn"),
            (r#"{"rank_pattern": {"q_proj": 2, "query": 4}}"#, "rank_pattern", "query"),
            (r#"{"alpha_pattern": {"layers.7.*": 4}}"#, "alpha_pattern", "layers.7.*"),
            (r#"{"target_modules": ["q_proj"], "rank_pattern": {"up_proj": 4}}"#, "rank_pattern", "up_proj"),
        ] {
            match config(text).compile().unwrap().places(&LAYERS) {
                Err(Error::Unmatched { field, entry, .. }) => assert_eq!((field, entry.as_str()), (expected, found)),
                other => panic!("{text}: {other:?}"),
            }
        }
        let fits = config(r#"{"target_modules": ["q_proj"], "rank_pattern": {"layers.1.*": 2, "q_proj": 4}}"#);
        let places = fits.compile().unwrap().places(&LAYERS).unwrap();
        let ranks: Vec<(&str, usize)> = places.iter().map(|(name, place)| (*name, place.rank)).collect();
        assert_eq!(ranks, [(LAYERS[0], 4), (LAYERS[2], 2)]);
    }

    #[test]
    fn every_pattern_is_compiled_by_the_check() {
        for text in [
            r#"{"target_modules": "("}"#,
            r#"{"rank_pattern": {"q_proj": 2, "(": 4}}"#,
            r#"{"alpha_pattern": {"q_proj": 2, "[": 4}}"#,
        ] {
            assert!(matches!(config(text).check(), Err(Error::Pattern { .. })), "{text}");
        }
        let control = config(r#"{"rank_pattern": {"(\u001b[31m": 2}}"#).check().unwrap_err();
        assert!(!control.to_string().contains('\u{1b}'), "{control:?}");
        for text in [r#"{"target_modules": ["q_proj", "lm_head"]}"#, r#"{"target_modules": ".*(q_proj|embed_tokens)"}"#]
        {
            assert!(matches!(config(text).check(), Err(Error::UnsupportedLayer { .. })), "{text}");
        }
    }
}
