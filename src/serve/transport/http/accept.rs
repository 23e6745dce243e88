//! Which form an answer takes: the caller's `Accept`, and what the answer will be. Settled before
//! any work is done, so that a form which cannot be given costs nothing.

use axum::http::{HeaderMap, header};

use crate::serve::error::{Error, ErrorKind};
use restain_bundle::codec::ImageFormat;

pub(super) const JSON: &str = "application/json";
pub(super) const SAFETENSORS: &str = "application/vnd.restain.safetensors";
pub(super) const TAR: &str = "application/x-tar";

/// Pictures of one sheet at most, originals included: past it the picture, and the header that
/// says where each of its cells came from, are of no use to anyone.
const MAX_SHEET: usize = 100;

/// How an answer is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// Base64 pictures in the caller's format.
    Json(ImageFormat),
    Multipart(ImageFormat),
    Tar(ImageFormat),
    /// One tensor of pixels.
    Safetensors,
    /// One picture.
    Image(ImageFormat),
}

/// What is known of the answer before it is made.
#[derive(Clone, Copy)]
pub(super) struct Expected {
    pub tiles: usize,
    pub variants: usize,
    pub sheet: bool,
    /// What the request's `output.format` says.
    pub format: Option<ImageFormat>,
    /// Whether the request's body is itself one picture.
    pub from_image: bool,
}

/// `Accept`. Several lines of it are one list (RFC 9110, 5.3).
pub(super) fn accept(headers: &HeaderMap) -> Option<String> {
    let lines = headers.get_all(header::ACCEPT).iter();
    let lines: Vec<_> = lines.map(|line| String::from_utf8_lossy(line.as_bytes())).collect();
    (!lines.is_empty()).then(|| lines.join(", "))
}

impl Form {
    /// # Errors
    /// `not_acceptable`, with the forms that could be given.
    pub(super) fn negotiate(accept: Option<&str>, expected: &Expected) -> Result<Self, Error> {
        let ranges = ranges(accept.unwrap_or("*/*"));
        if expected.sheet && expected.tiles.saturating_mul(expected.variants + 1) > MAX_SHEET {
            let detail = format!(
                "a sheet of {} tiles with {} variants each has more than {MAX_SHEET} pictures: ask \
                for fewer, or for another form",
                expected.tiles, expected.variants
            );
            return Err(Error::new(ErrorKind::NotAcceptable, detail));
        }
        ranges.iter().find_map(|range| expected.form_for(range)).ok_or_else(|| {
            let accept = accept.unwrap_or_default();
            let detail = match (expected.one_picture(), expected.sheet) {
                (_, true) => format!(
                    "Accept is `{accept}`, and a sheet is image/png, image/jpeg or image/webp"
                ),
                (true, false) => format!(
                    "Accept is `{accept}`, and given are {ALL}, image/png, image/jpeg and \
                    image/webp"
                ),
                (false, false) => format!(
                    "Accept is `{accept}`, and this answer has {} pictures: accept {ALL}, or set \
                    sheet to true for one picture of them all",
                    expected.tiles.saturating_mul(expected.variants)
                ),
            };
            Error::new(ErrorKind::NotAcceptable, detail)
        })
    }
}

const ALL: &str =
    "application/json, multipart/mixed, application/x-tar, application/vnd.restain.safetensors";

impl Expected {
    fn one_picture(&self) -> bool {
        self.sheet || (self.tiles == 1 && self.variants == 1)
    }

    fn form_for(&self, range: &str) -> Option<Form> {
        let format = self.format.unwrap_or_default();
        let form = match range {
            "*/*" if self.sheet || (self.from_image && self.one_picture()) => Form::Image(format),
            "*/*" | "application/*" | "application/json" => Form::Json(format),
            "multipart/*" | "multipart/mixed" => Form::Multipart(format),
            TAR => Form::Tar(format),
            SAFETENSORS => Form::Safetensors,
            "image/*" => Form::Image(format),
            "image/png" => Form::Image(ImageFormat::Png),
            "image/jpeg" => Form::Image(ImageFormat::Jpeg),
            "image/webp" => Form::Image(ImageFormat::Webp),
            _ => return None,
        };
        let fits = match form {
            Form::Image(_) => self.one_picture(),
            _ => !self.sheet,
        };
        fits.then_some(form)
    }
}

/// Of the media types that `offered` names, the one that is wanted most; the first, where it is all
/// the same.
///
/// # Errors
/// `not_acceptable`, with what is offered.
pub(super) fn choose(
    accept: Option<&str>,
    offered: &[&'static str],
) -> Result<&'static str, Error> {
    let fits = |range: &str, offer: &str| match range.strip_suffix("/*") {
        Some("*") => true,
        Some(kind) => offer.split('/').next() == Some(kind),
        None => range == offer,
    };
    let ranges = ranges(accept.unwrap_or("*/*"));
    let chosen = ranges.iter().find_map(|range| offered.iter().find(|offer| fits(range, offer)));
    chosen.copied().ok_or_else(|| {
        let detail = format!(
            "Accept is `{}`, and given are {}",
            accept.unwrap_or_default(),
            offered.join(" and ")
        );
        Error::new(ErrorKind::NotAcceptable, detail)
    })
}

/// The media ranges, the most wanted first; those of weight 0 are not wanted at all. Parameters
/// other than the weight are passed over.
fn ranges(accept: &str) -> Vec<String> {
    let mut weighted: Vec<(f32, String)> = Vec::new();
    for part in accept.split(',') {
        let mut fields = part.split(';').map(str::trim);
        let range = fields.next().unwrap_or_default().to_ascii_lowercase();
        let weight = fields
            .find_map(|field| field.strip_prefix("q="))
            .map_or(1.0, |weight| weight.parse().unwrap_or(0.0));
        if weight > 0.0 && !range.is_empty() {
            weighted.push((weight, range));
        }
    }
    // Stable: of equal weights the first named wins.
    weighted.sort_by(|a, b| b.0.total_cmp(&a.0));
    weighted.into_iter().map(|(_, range)| range).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Expected =
        Expected { tiles: 1, variants: 1, sheet: false, format: None, from_image: true };

    fn form(accept: &str, expected: &Expected) -> Option<Form> {
        Form::negotiate(Some(accept), expected).ok()
    }

    #[test]
    fn one_picture_in_is_one_picture_out_and_everything_else_is_json() {
        assert_eq!(Form::negotiate(None, &ONE).unwrap(), Form::Image(ImageFormat::Png));
        assert_eq!(
            form("*/*", &Expected { format: Some(ImageFormat::Jpeg), ..ONE }),
            Some(Form::Image(ImageFormat::Jpeg))
        );
        assert_eq!(
            form("*/*", &Expected { variants: 2, ..ONE }),
            Some(Form::Json(ImageFormat::Png))
        );
        assert_eq!(
            form("*/*", &Expected { from_image: false, ..ONE }),
            Some(Form::Json(ImageFormat::Png))
        );
        assert_eq!(
            form("*/*", &Expected { from_image: false, tiles: 3, sheet: true, ..ONE }),
            Some(Form::Image(ImageFormat::Png))
        );
    }

    #[test]
    fn several_lines_are_one_list() {
        let lines = |lines: &[&str]| {
            let line = |line: &&str| (header::ACCEPT, line.parse().unwrap());
            accept(&lines.iter().map(line).collect())
        };
        assert_eq!(lines(&[]), None);
        let two = lines(&["image/webp;q=0.5", "text/html, image/png"]).unwrap();
        assert_eq!(form(&two, &ONE), Some(Form::Image(ImageFormat::Png)));
    }

    #[test]
    fn weights_order_what_is_wanted() {
        assert_eq!(
            form("image/png;q=0.1, application/json", &ONE),
            Some(Form::Json(ImageFormat::Png))
        );
        assert_eq!(form("image/webp, image/png", &ONE), Some(Form::Image(ImageFormat::Webp)));
        assert_eq!(form("text/html, application/json;q=0", &ONE), None);
    }

    #[test]
    fn of_what_is_offered_the_most_wanted_is_given() {
        let chosen = |accept| choose(accept, &[JSON, SAFETENSORS]).ok();
        assert_eq!(
            [chosen(None), chosen(Some("*/*")), chosen(Some("application/*;q=0.1"))],
            [Some(JSON); 3]
        );
        assert_eq!(
            chosen(Some("application/json;q=0.5, application/vnd.restain.safetensors")),
            Some(SAFETENSORS)
        );
        assert_eq!([chosen(Some("image/*")), chosen(Some("application/json;q=0"))], [None; 2]);
    }

    #[test]
    fn several_pictures_do_not_fit_into_one() {
        let error =
            Form::negotiate(Some("image/png"), &Expected { variants: 3, ..ONE }).unwrap_err();
        assert!(error.detail.contains("3 pictures") && error.detail.contains("sheet"), "{error}");
        assert_eq!(
            form("image/png, */*;q=0.5", &Expected { variants: 3, ..ONE }),
            Some(Form::Json(ImageFormat::Png))
        );
        assert!(form("image/png", &Expected { variants: 100, sheet: true, ..ONE }).is_none());
    }
}
