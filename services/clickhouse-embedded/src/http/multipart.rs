//! `multipart/form-data`: the way of clients with parameters too large for a URL.

use crate::exception::{Exception, code};

/// One field: its name and content.
pub type Field<'a> = (String, &'a [u8]);

/// The boundary that a content type names, if it is multipart.
pub fn boundary(content_type: &str) -> Option<String> {
    let (kind, rest) = content_type.split_once(';')?;
    if !kind.trim().eq_ignore_ascii_case("multipart/form-data") {
        return None;
    }
    let value = rest.split(';').find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        name.trim()
            .eq_ignore_ascii_case("boundary")
            .then_some(value)
    })?;
    let value = value.trim().trim_matches('"');
    (!value.is_empty()).then(|| value.to_owned())
}

/// Takes a body apart.
///
/// # Errors
/// It is not of this form, or ends too early.
pub fn fields<'a>(body: &'a [u8], boundary: &str) -> Result<Vec<Field<'a>>, Exception> {
    let broken = |what: &str| {
        Exception::new(
            code::BAD_REQUEST_PARAMETER,
            "BAD_REQUEST_PARAMETER",
            &format!("the multipart body {what}"),
        )
    };
    let first = format!("--{boundary}");
    let between = format!("\r\n--{boundary}");
    let mut rest = body
        .strip_prefix(first.as_bytes())
        .or_else(|| {
            let at = find(body, between.as_bytes())?;
            Some(&body[at + between.len()..])
        })
        .ok_or_else(|| broken("does not begin with its boundary"))?;
    let mut fields = Vec::new();
    loop {
        if rest.starts_with(b"--") {
            return Ok(fields);
        }
        rest = rest
            .strip_prefix(b"\r\n")
            .ok_or_else(|| broken("has no line end behind a boundary"))?;
        let head = find(rest, b"\r\n\r\n").ok_or_else(|| broken("has a part without content"))?;
        let content = &rest[head + 4..];
        let end = find(content, between.as_bytes())
            .ok_or_else(|| broken("ends before its last boundary"))?;
        let name = field_name(&rest[..head]).ok_or_else(|| broken("has a part without a name"))?;
        fields.push((name, &content[..end]));
        rest = &content[end + between.len()..];
    }
}

fn field_name(head: &[u8]) -> Option<String> {
    let head = String::from_utf8_lossy(head);
    let disposition = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.trim()
            .eq_ignore_ascii_case("content-disposition")
            .then(|| value.to_owned())
    })?;
    disposition.split(';').find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        (name.trim() == "name").then(|| value.trim().trim_matches('"').to_owned())
    })
}

fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    text.windows(part.len()).position(|window| window == part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_taken_apart() {
        let kind = "multipart/form-data; charset=x; boundary=\"xyz\"";
        let boundary = boundary(kind).unwrap();
        assert_eq!(boundary, "xyz");
        let body =
            b"--xyz\r\nContent-Disposition: form-data; name=\"query\"\r\n\r\nSELECT\r\n1\r\n\
                     --xyz\r\ncontent-disposition: form-data; name=param_x\r\n\
                     Content-Type: text/plain\r\n\r\n\r\n--xyz--\r\n";
        let fields = fields(body, &boundary).unwrap();
        assert_eq!(fields[0], ("query".to_owned(), &b"SELECT\r\n1"[..]));
        assert_eq!(fields[1], ("param_x".to_owned(), &b""[..]));
    }

    #[test]
    fn what_is_cut_off_is_refused() {
        let body = b"--x\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\nSELECT 1\r\n--x--";
        assert_eq!(fields(body, "x").unwrap().len(), 1);
        for length in 0..body.len() - 1 {
            assert!(fields(&body[..length], "x").is_err(), "{length}");
        }
        assert!(boundary("text/plain; boundary=x").is_none());
    }
}
