//! Names of environment variables that secrets may not fill: those that change how programs load, trust or connect.

/// The refused names; `*` stands for any run of characters. Compared without regard to case.
pub const REFUSED: &[&str] = &[
    "LD_*",
    "PATH",
    "HOME",
    "IFS",
    "BASH_ENV",
    "ENV",
    "PYTHON*",
    "NODE_OPTIONS",
    "NODE_EXTRA_CA_CERTS",
    "PERL5*",
    "RUBY*",
    "JAVA_TOOL_OPTIONS",
    "_JAVA_OPTIONS",
    "JDK_JAVA_OPTIONS",
    "CLASSPATH",
    "DOTNET_*",
    "GCONV_PATH",
    "GLIBC_TUNABLES",
    "MALLOC_*",
    "OPENSSL_*",
    "SSL_CERT_*",
    "*_CA_BUNDLE",
    "GIT_*",
    "PIP_*",
    "*_PROXY",
    "*_ENDPOINT*",
    "KUBERNETES_*",
    "KUBECONFIG",
    "AWS_ROLE_ARN",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONFIG_FILE",
];

/// The entry of [`REFUSED`] that refuses `name`, if one does.
pub fn refused(name: &str) -> Option<&'static str> {
    REFUSED.iter().copied().find(|pattern| matches(pattern.as_bytes(), name.as_bytes()))
}

/// Whether a secret may fill `name`: it is not refused, or an entry of `allow` names it (a trailing `*` makes a prefix).
pub fn allowed<S: AsRef<str>>(name: &str, allow: &[S]) -> bool {
    refused(name).is_none() || allow.iter().any(|entry| matches(entry.as_ref().as_bytes(), name.as_bytes()))
}

/// Glob with `*` alone, ASCII case folded; iterative, so that its time is bounded by the product of the lengths.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        if pattern.get(p) == Some(&b'*') {
            star = Some((p, n));
            p += 1;
        } else if pattern.get(p).is_some_and(|c| c.eq_ignore_ascii_case(&name[n])) {
            p += 1;
            n += 1;
        } else if let Some((at, consumed)) = star {
            star = Some((at, consumed + 1));
            p = at + 1;
            n = consumed + 1;
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|c| *c == b'*')
}

#[cfg(test)]
mod tests {
    use super::{REFUSED, allowed, refused};

    #[test]
    fn variables_that_change_how_programs_load_trust_or_connect_are_refused_without_regard_to_case() {
        for name in [
            "LD_PRELOAD",
            "ld_library_path",
            "PATH",
            "Home",
            "PYTHONPATH",
            "https_proxy",
            "REQUESTS_CA_BUNDLE",
            "AWS_ENDPOINT_URL",
            "AWS_ENDPOINT_URL_KMS",
            "GIT_SSH_COMMAND",
            "KUBERNETES_SERVICE_HOST",
            "Perl5Opt",
            "SSL_CERT_FILE",
            "_JAVA_OPTIONS",
            "GLIBC_TUNABLES",
            "env",
        ] {
            assert!(refused(name).is_some(), "{name}");
        }
        for name in ["HF_TOKEN", "DB_PASSWORD", "WANDB_API_KEY", "MY_PATH", "PROXY", "ENVIRONMENT", "AWS_SECRET_ACCESS_KEY", "LD"] {
            assert_eq!(refused(name), None, "{name}");
        }
    }

    #[test]
    fn a_provider_can_allow_a_refused_name_or_a_prefix() {
        assert!(allowed("HTTPS_PROXY", &["https_proxy"]));
        assert!(allowed("PIP_INDEX_URL", &["PIP_*"]));
        assert!(!allowed("PIP_INDEX_URL", &["PIPX"]));
        assert!(!allowed::<&str>("PATH", &[]));
        assert!(allowed::<&str>("HF_TOKEN", &[]));
    }

    #[test]
    fn every_refused_pattern_refuses_what_it_spells() {
        for pattern in REFUSED {
            let spelled = pattern.replace('*', "X");
            assert!(refused(&spelled).is_some(), "{pattern}");
        }
    }
}
