//! Bodies: that there must be one, and what the parts of a form are written as.

use utoipa::Modify;
use utoipa::openapi::encoding::EncodingBuilder;
use utoipa::openapi::{OpenApi, RefOr, Required};

use super::operations;

const FORM: &str = "multipart/form-data";
/// What the parts of forms hold, whichever form has them.
const PARTS: [(&str, &str); 4] = [
    ("request", "application/json"),
    ("tile", "image/png, image/jpeg, image/webp, image/tiff"),
    ("reference", "image/png, image/jpeg, image/webp, image/tiff"),
    ("key", "text/plain"),
];

pub(super) struct Forms;

impl Modify for Forms {
    fn modify(&self, openapi: &mut OpenApi) {
        let mut reads = Vec::new();
        for (_, path, operation) in operations(openapi) {
            let Some(RefOr::T(body)) = &mut operation.request_body else { continue };
            let is_optional = path.starts_with("/v1/models/");
            body.required = Some(if is_optional { Required::False } else { Required::True });
            if let Some(RefOr::T(form)) = body.content.get_mut(FORM) {
                reads.push((operation.operation_id.clone(), form));
            }
        }
        for (operation, form) in reads {
            let parts: &[(&str, &str)] = match operation.as_deref() {
                Some("augment") => &PARTS,
                Some("encode") => &[PARTS[0], PARTS[1], PARTS[3]],
                _ => &PARTS[1..2],
            };
            for (part, kind) in parts {
                form.encoding.insert(
                    (*part).to_owned(),
                    EncodingBuilder::new().content_type(Some(*kind)).build(),
                );
            }
        }
    }
}
