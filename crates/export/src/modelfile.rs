//! Ollama's `Modelfile`.

use std::fmt;

/// The file from which Ollama makes a model (<https://github.com/ollama/ollama/blob/main/docs/modelfile.md>).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Modelfile {
    /// The model: the path of a GGUF, or of a folder with safetensors.
    pub from: String,
    /// The path of an adapter beside the model.
    pub adapter: Option<String>,
    /// The chat template in Go's language. Without it, Ollama looks for one of those it knows in the GGUF.
    pub template: Option<String>,
    /// The texts at which an answer ends.
    pub stop: Vec<String>,
    /// How answers are decoded, with Ollama's names.
    pub parameters: Vec<(&'static str, f64)>,
}

impl fmt::Display for Modelfile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "FROM {}", self.from)?;
        if let Some(adapter) = &self.adapter {
            writeln!(f, "ADAPTER {adapter}")?;
        }
        if let Some(template) = &self.template {
            writeln!(f, "TEMPLATE \"\"\"{template}\"\"\"")?;
        }
        for stop in &self.stop {
            writeln!(f, "PARAMETER stop \"{}\"", stop.replace('\\', "\\\\").replace('"', "\\\""))?;
        }
        self.parameters.iter().try_for_each(|(name, value)| writeln!(f, "PARAMETER {name} {value}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_has_its_instruction() {
        let file = Modelfile {
            from: "./model.gguf".into(),
            adapter: Some("./adapter.gguf".into()),
            template: Some("{{ .Prompt }}".into()),
            stop: vec!["<|im_end|>".into(), "a \"b\"".into()],
            parameters: vec![("temperature", 0.5)],
        };
        let expected = "FROM ./model.gguf\nADAPTER ./adapter.gguf\nTEMPLATE \"\"\"{{ .Prompt }}\"\"\"\n\
                        PARAMETER stop \"<|im_end|>\"\nPARAMETER stop \"a \\\"b\\\"\"\nPARAMETER temperature 0.5\n";
        assert_eq!(file.to_string(), expected);
    }
}
