//! A call's own deadline: the `grpc-timeout` that client libraries send, as the request's
//! `timeout_ms`.

use std::time::Duration;

use tonic::metadata::MetadataMap;

/// The shorter of the message's timeout and the call's `grpc-timeout`; None without either. A
/// header that cannot be parsed counts as absent, as the protocol asks.
pub(crate) fn timeout_ms(metadata: &MetadataMap, asked: Option<u64>) -> Option<u64> {
    let of_call =
        metadata.get("grpc-timeout").and_then(|value| value.to_str().ok()).and_then(parse);
    // Rounded up: a deadline below a millisecond is not none at all, which would be refused as
    // such.
    let of_call = of_call
        .map(|span| u64::try_from(span.as_micros().div_ceil(1000)).unwrap_or(u64::MAX).max(1));
    match (asked, of_call) {
        (Some(asked), Some(of_call)) => Some(asked.min(of_call)),
        (asked, of_call) => asked.or(of_call),
    }
}

/// At most eight digits and a unit.
fn parse(text: &str) -> Option<Duration> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let number: u64 = number.parse().ok().filter(|_| number.len() <= 8)?;
    Some(match unit {
        "H" => Duration::from_secs(number * 3600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shorter_of_two_deadlines_counts() {
        let of = |head: Option<&str>, asked| {
            let mut metadata = MetadataMap::new();
            head.map(|text| metadata.insert("grpc-timeout", text.parse().unwrap()));
            timeout_ms(&metadata, asked)
        };
        assert_eq!(of(None, None), None);
        assert_eq!(of(None, Some(0)), Some(0), "passed on, and refused later");
        assert_eq!(of(Some("2S"), None), Some(2000));
        assert_eq!(of(Some("2S"), Some(7)), Some(7));
        assert_eq!(of(Some("500u"), Some(7)), Some(1));
        for unreadable in ["", "S", "5", "123456789S", "-1S", "1x"] {
            assert_eq!(of(Some(unreadable), Some(7)), Some(7), "{unreadable}");
        }
    }
}
