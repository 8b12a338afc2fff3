//! Who owns which token.
