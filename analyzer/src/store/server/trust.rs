//! Who may vouch for a server: the CA that the URL names, and nobody else.
//!
//! # Design
//!
//! The client adds the URL's CA to the public ones. A certificate for some name of one's own is to be had
//! from those by everyone, so with `tls=verify-ca`, where the name does not matter, they would vouch for
//! anybody; and who names a CA means this one. The client asks the process's default provider to check the
//! signatures of a chain, so with a provider that finds none good by a public CA's key no chain ends there.

use std::sync::{LazyLock, OnceLock};

use rustls::SignatureScheme;
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, ring};
use rustls::pki_types::{AlgorithmIdentifier, InvalidSignature, SignatureVerificationAlgorithm};

/// An algorithm that finds no signature of a public CA good.
#[derive(Debug)]
struct Other(&'static dyn SignatureVerificationAlgorithm);

impl SignatureVerificationAlgorithm for Other {
    fn verify_signature(
        &self,
        public_key: &[u8],
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), InvalidSignature> {
        if is_public(public_key) {
            return Err(InvalidSignature);
        }
        self.0.verify_signature(public_key, message, signature)
    }

    fn public_key_alg_id(&self) -> AlgorithmIdentifier {
        self.0.public_key_alg_id()
    }

    fn signature_alg_id(&self) -> AlgorithmIdentifier {
        self.0.signature_alg_id()
    }

    fn fips(&self) -> bool {
        self.0.fips()
    }
}

/// Whether it is the key of a public CA. What a root says of its key ends with the key's own bits (RFC 5280,
/// 4.1: SubjectPublicKeyInfo).
fn is_public(key: &[u8]) -> bool {
    webpki_roots::TLS_SERVER_ROOTS
        .iter()
        .any(|root| root.subject_public_key_info.as_ref().ends_with(key))
}

/// Makes the URL's CA the only one for the client's TLS in this process from now on; `false` if it has
/// connected otherwise before.
pub fn only_named_ca() -> bool {
    static IS_DONE: OnceLock<bool> = OnceLock::new();
    *IS_DONE.get_or_init(|| provider().install_default().is_ok())
}

fn provider() -> CryptoProvider {
    static ALGORITHMS: LazyLock<WebPkiSupportedAlgorithms> = LazyLock::new(|| {
        let all = ring::default_provider().signature_verification_algorithms;
        let other = |one: &&'static dyn SignatureVerificationAlgorithm| {
            let boxed: Box<dyn SignatureVerificationAlgorithm> = Box::new(Other(*one));
            &*Box::leak(boxed)
        };
        let list = |some: &[&'static dyn SignatureVerificationAlgorithm]| {
            let some: Vec<_> = some.iter().map(other).collect();
            &*some.leak()
        };
        let mapping: Vec<(SignatureScheme, &'static [_])> =
            all.mapping.iter().map(|(scheme, some)| (*scheme, list(some))).collect();
        WebPkiSupportedAlgorithms { all: list(all.all), mapping: mapping.leak() }
    });
    CryptoProvider { signature_verification_algorithms: *ALGORITHMS, ..ring::default_provider() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_public_cas_are_known() {
        for root in webpki_roots::TLS_SERVER_ROOTS {
            let info = root.subject_public_key_info.as_ref();
            // An RSA key is a sequence of hundreds of bytes, one on a curve has at most 97.
            let key = &info[info.len() - 65..];
            assert!(is_public(key));
        }
        assert!(!is_public(&[4; 65]));
    }
}
