//! `multipart/form-data`: the way of clients with parameters too large for a URL, and with tables
//! that come with a query.

use bytes::Bytes;

use crate::exception::{Exception, code};

/// More parts than this are not a form that a client sends.
const MAX_PARTS: usize = 1000;

/// One part of a form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// Its name.
    pub name: String,
    /// It has the name of a file: a table that comes with the query.
    pub is_file: bool,
    /// What it holds.
    pub content: Bytes,
}

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
pub fn fields(body: &Bytes, boundary: &str) -> Result<Vec<Field>, Exception> {
    let broken = |what: &str| {
        Exception::new(
            code::BAD_REQUEST_PARAMETER,
            "BAD_REQUEST_PARAMETER",
            &format!("the multipart body {what}"),
        )
    };
    let first = format!("--{boundary}");
    let between = format!("\r\n--{boundary}");
    let mut at = if body.starts_with(first.as_bytes()) {
        first.len()
    } else {
        find(body, between.as_bytes())
            .map(|at| at + between.len())
            .ok_or_else(|| broken("does not begin with its boundary"))?
    };
    let mut fields = Vec::new();
    loop {
        let rest = &body[at..];
        if rest.starts_with(b"--") {
            return Ok(fields);
        }
        if fields.len() == MAX_PARTS {
            return Err(broken(&format!("has more than {MAX_PARTS} parts")));
        }
        if !rest.starts_with(b"\r\n") {
            return Err(broken("has no line end behind a boundary"));
        }
        let head = find(rest, b"\r\n\r\n").ok_or_else(|| broken("has a part without content"))?;
        let content = at + head + 4;
        let length = find(&body[content..], between.as_bytes())
            .ok_or_else(|| broken("ends before its last boundary"))?;
        let (name, is_file) =
            field_name(&rest[..head]).ok_or_else(|| broken("has a part without a name"))?;
        fields.push(Field {
            name,
            is_file,
            content: body.slice(content..content + length),
        });
        at = content + length + between.len();
    }
}

/// The name that a part's head gives it, and whether it names a file as well.
fn field_name(head: &[u8]) -> Option<(String, bool)> {
    let head = String::from_utf8_lossy(head);
    let disposition = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.trim()
            .eq_ignore_ascii_case("content-disposition")
            .then(|| value.to_owned())
    })?;
    let parameter = |wanted: &str| {
        disposition.split(';').find_map(|parameter| {
            let (name, value) = parameter.split_once('=')?;
            name.trim()
                .eq_ignore_ascii_case(wanted)
                .then(|| value.trim().trim_matches('"').to_owned())
        })
    };
    Some((parameter("name")?, parameter("filename").is_some()))
}

fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    text.windows(part.len()).position(|window| window == part)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn fields_are_taken_apart() {
        let kind = "multipart/form-data; charset=x; boundary=\"xyz\"";
        let boundary = boundary(kind).unwrap();
        assert_eq!(boundary, "xyz");
        let body =
            b"--xyz\r\nContent-Disposition: form-data; name=\"query\"\r\n\r\nSELECT\r\n1\r\n\
                     --xyz\r\ncontent-disposition: form-data; name=param_x\r\n\
                     Content-Type: text/plain\r\n\r\n\r\n--xyz--\r\n";
        let fields = fields(&Bytes::from_static(body), &boundary).unwrap();
        assert_eq!(fields[0].name, "query");
        assert_eq!(fields[0].content, "SELECT\r\n1");
        assert!(!fields[0].is_file);
        assert_eq!(
            (fields[1].name.as_str(), &fields[1].content[..]),
            ("param_x", &b""[..])
        );
        let body = b"--b\r\nContent-Disposition: form-data; name=\"t\"; filename=\"t\"\r\n\
                     Content-Type: application/octet-stream\r\n\r\n1\n\r\n--b--";
        let fields = super::fields(&Bytes::from_static(body), "b").unwrap();
        assert!(fields[0].is_file && fields[0].content == "1\n");
    }

    #[test]
    fn what_is_cut_off_is_refused() {
        let body = b"--x\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\nSELECT 1\r\n--x--";
        let body = Bytes::from_static(body);
        assert_eq!(fields(&body, "x").unwrap().len(), 1);
        for length in 0..body.len() - 1 {
            assert!(fields(&body.slice(..length), "x").is_err(), "{length}");
        }
        assert!(boundary("text/plain; boundary=x").is_none());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]

        #[test]
        fn contents_come_back_whatever_they_are(
            parts in proptest::collection::vec(
                ("[a-z]{1,8}", any::<bool>(), proptest::collection::vec(any::<u8>(), 0..60)), 0..5),
        ) {
            let mut body = Vec::new();
            for (name, is_file, content) in &parts {
                let file = if *is_file { "; filename=\"f\"" } else { "" };
                body.extend_from_slice(b"--boundary\r\nContent-Disposition: form-data; name=\"");
                body.extend_from_slice(format!("{name}\"{file}\r\n\r\n").as_bytes());
                body.extend_from_slice(content);
                body.extend_from_slice(b"\r\n");
            }
            body.extend_from_slice(b"--boundary--\r\n");
            let fields = fields(&body.into(), "boundary").unwrap();
            let back: Vec<_> = fields
                .into_iter()
                .map(|field| (field.name, field.is_file, field.content.to_vec()))
                .collect();
            prop_assert_eq!(back, parts);
        }

        #[test]
        fn any_bytes_are_an_error_or_fields(
            pieces in proptest::collection::vec(
                prop::sample::select(vec![
                    "--b", "\r\n", "--", "Content-Disposition: form-data", "; name=", "\"", "x",
                    ";", "=", "\r\n\r\n", "\n", "\u{e9}", "; filename=",
                ]), 0..30),
        ) {
            let _ = fields(&pieces.concat().into(), "b");
            let _ = boundary(&pieces.concat());
        }
    }
}
