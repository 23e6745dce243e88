//! The two halves of a token: anatomy [patches, half] and characteristics [patches, half].
