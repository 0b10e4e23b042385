//! Secret bytes: a type that cannot be printed, compared by accident or serialised.

use zeroize::{Zeroize, ZeroizeOnDrop};

/// Bytes that must never be seen: overwritten when dropped, without `Debug`, `Display`, `Clone` or `Serialize`.
///
/// ```compile_fail
/// let secret = kustody_core::secret::SecretBytes::new(vec![1]);
/// println!("{secret:?}");
/// ```
/// ```compile_fail
/// let secret = kustody_core::secret::SecretBytes::new(vec![1]);
/// println!("{secret}");
/// ```
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct SecretBytes(Vec<u8>);

impl SecretBytes {
    /// Takes ownership of `bytes`; the caller keeps no copy.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// The bytes themselves: only for the code that encrypts, encodes for the wire or delivers them.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// How many bytes there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
