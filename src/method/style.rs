//! A style: one token's characteristics.

/// One vector of h numbers, seen as [C, L, P].
#[derive(Clone, Debug, PartialEq)]
pub struct Style(pub Vec<f32>);
