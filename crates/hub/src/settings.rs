//! The settings of a hub, read from the environment.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;

/// The paths and addresses that a [`Hub`](crate::Hub) uses.
#[derive(Clone, PartialEq, Eq)]
pub struct Settings {
    /// The root of Foehn's cache. Without it, only paths can be resolved.
    pub home: Option<PathBuf>,
    /// Whether the network must not be used.
    pub offline: bool,
    /// The hub's address, without a slash at its end.
    pub endpoint: String,
    /// The token for repositories that require one.
    pub token: Option<String>,
    /// The folder of Hugging Face's own cache that holds `models--org--name`.
    pub hf_cache: Option<PathBuf>,
    /// A file with PEM certificates to trust instead of Mozilla's.
    pub certificates: Option<PathBuf>,
}

impl Default for Settings {
    /// Online, Hugging Face's public hub, no folder and no token.
    fn default() -> Self {
        Self {
            home: None,
            offline: false,
            endpoint: "https://huggingface.co".to_owned(),
            token: None,
            hf_cache: None,
            certificates: None,
        }
    }
}

impl Settings {
    /// Reads `FOEHN_HOME`, `FOEHN_OFFLINE`, `HF_ENDPOINT`, `HF_TOKEN`, `HF_TOKEN_PATH`, `HF_HOME`, `HF_HUB_CACHE`,
    /// `SSL_CERT_FILE`, and the system's setting for the user's cache folder.
    pub fn from_env() -> Self {
        Self::from_vars(&|name| env::var_os(name), env::home_dir())
    }

    fn from_vars(var: &dyn Fn(&str) -> Option<OsString>, user_home: Option<PathBuf>) -> Self {
        // An empty variable counts as unset, as in Hugging Face's tools.
        let var = |name| var(name).filter(|value| !value.is_empty());
        let text = |name| var(name).and_then(|value| value.into_string().ok());
        let path = |name| var(name).map(PathBuf::from);
        let xdg_cache = path("XDG_CACHE_HOME").or_else(|| Some(user_home.as_ref()?.join(".cache")));
        let user_cache = if cfg!(target_os = "macos") {
            user_home.as_ref().map(|home| home.join("Library/Caches"))
        } else if cfg!(windows) {
            path("LOCALAPPDATA")
        } else {
            xdg_cache.clone()
        };
        // Hugging Face's tools use the XDG folder on every system.
        let hf_home = path("HF_HOME").or_else(|| Some(xdg_cache?.join("huggingface")));
        let token_file = path("HF_TOKEN_PATH").or_else(|| Some(hf_home.as_ref()?.join("token")));
        let token = text("HF_TOKEN").or_else(|| fs::read_to_string(token_file?).ok());
        let token = token.map(|token| token.trim().to_owned()).filter(|token| !token.is_empty());
        let default = Self::default();
        Self {
            home: path("FOEHN_HOME").or_else(|| Some(user_cache?.join("foehn"))),
            offline: text("FOEHN_OFFLINE").is_some_and(|value| value != "0"),
            endpoint: text("HF_ENDPOINT").map_or(default.endpoint, |url| url.trim_end_matches('/').to_owned()),
            token,
            hf_cache: path("HF_HUB_CACHE").or_else(|| Some(hf_home?.join("hub"))),
            certificates: path("SSL_CERT_FILE"),
        }
    }
}

impl std::fmt::Debug for Settings {
    /// Leaves out the token, which must not appear in a log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Settings")
            .field("home", &self.home)
            .field("offline", &self.offline)
            .field("endpoint", &self.endpoint)
            .field("token", &self.token.as_ref().map(|_| "…"))
            .field("hf_cache", &self.hf_cache)
            .field("certificates", &self.certificates)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(vars: &[(&str, &str)], expected: Settings) {
        let var = |name: &str| vars.iter().find(|(key, _)| *key == name).map(|(_, value)| OsString::from(value));
        assert_eq!(Settings::from_vars(&var, Some("/no/such/home".into())), expected, "{vars:?}");
    }

    #[test]
    #[cfg(not(any(windows, target_os = "macos")))]
    fn the_environment_is_read_as_documented() {
        let plain = Settings {
            home: Some("/no/such/home/.cache/foehn".into()),
            hf_cache: Some("/no/such/home/.cache/huggingface/hub".into()),
            ..Settings::default()
        };
        check(&[], plain.clone());
        check(&[("FOEHN_HOME", ""), ("FOEHN_OFFLINE", "0"), ("HF_TOKEN", " \n")], plain.clone());
        check(
            &[("FOEHN_HOME", "/f"), ("FOEHN_OFFLINE", "1")],
            Settings { home: Some("/f".into()), offline: true, ..plain.clone() },
        );
        check(
            &[("XDG_CACHE_HOME", "/x")],
            Settings { home: Some("/x/foehn".into()), hf_cache: Some("/x/huggingface/hub".into()), ..plain.clone() },
        );
        check(
            &[("HF_HOME", "/h"), ("HF_TOKEN", "t\n"), ("HF_ENDPOINT", "http://mirror/")],
            Settings {
                endpoint: "http://mirror".into(),
                token: Some("t".into()),
                hf_cache: Some("/h/hub".into()),
                ..plain.clone()
            },
        );
        check(
            &[("HF_HOME", "/h"), ("HF_HUB_CACHE", "/c"), ("SSL_CERT_FILE", "/ca.pem")],
            Settings { hf_cache: Some("/c".into()), certificates: Some("/ca.pem".into()), ..plain },
        );
    }

    #[test]
    fn a_token_file_is_read_and_a_token_is_never_shown() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("token"), "hf_secret\n").unwrap();
        let settings = Settings::from_vars(&|name| (name == "HF_HOME").then(|| folder.path().into()), None);
        assert_eq!(settings.token.as_deref(), Some("hf_secret"));
        assert_eq!(settings.home, None);
        assert!(!format!("{settings:?}").contains("hf_secret"));
    }
}
