//! Sizes in the clear: decimal ASCII, padded on the right with `=` to 8 bytes.

/// Bytes of a size.
pub const SIZE: usize = 8;
/// Acknowledges.
pub const ACK: u8 = b'1';
/// Refuses; who refuses closes.
pub const REFUSAL: u8 = b'0';

/// The largest size that can be written.
const MAX: usize = 99_999_999;

/// Writes a size; `None` if it has more than 8 digits.
pub fn size_header(size: usize) -> Option<[u8; SIZE]> {
    let mut header = [b'='; SIZE];
    let digits = (size <= MAX).then(|| size.to_string())?;
    header[..digits.len()].copy_from_slice(digits.as_bytes());
    Some(header)
}

/// Reads a size: 1 to 8 digits, then only `=`.
///
/// `None` is also how a request of the second generation looks here: of its random blocks, six in 10¹² look
/// like a size.
pub fn clear_size(header: &[u8; SIZE]) -> Option<usize> {
    let digits = header.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let padded = header[digits..].iter().all(|&byte| byte == b'=');
    (digits > 0 && padded).then(|| number(&header[..digits])).flatten()
}

/// Reads 1 to 8 decimal digits and nothing else.
pub(super) fn number(digits: &[u8]) -> Option<usize> {
    let plain = (1..=SIZE).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit);
    plain.then(|| digits.iter().fold(0, |number, digit| number * 10 + usize::from(digit - b'0')))
}
