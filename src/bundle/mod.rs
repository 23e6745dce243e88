//! A trained model as a directory: the only thing that passes from training to serving.
