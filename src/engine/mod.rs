//! ONNX Runtime: the only module that names it.
