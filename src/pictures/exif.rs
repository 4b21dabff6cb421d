//! The smallest EXIF block that holds a text: JPEG and WebP have no text chunks, and programs that read what a picture was drawn
//! from look for it in the field `UserComment` (EXIF 2.32, 4.6.5; TIFF 6.0, section 2).

/// Where the second directory lies: after the header (8 bytes) and the first directory with one entry (2 + 12 + 4).
const SECOND: u32 = 8 + 18;
/// Where the comment lies: after the second directory, which has one entry too.
const COMMENT: u32 = SECOND + 18;
const POINTER: u16 = 0x8769;
const USER_COMMENT: u16 = 0x9286;
const LONG: u16 = 4;
const UNDEFINED: u16 = 7;
/// A JPEG's block has a length of 16 bits.
const MOST: usize = 60_000;

/// A block with a comment; `None` where the comment is longer than a block may be.
pub(super) fn comment(text: &str) -> Option<Vec<u8>> {
    // The character code, and then UTF-16 in the block's byte order, as `piexif` writes and reads it.
    let mut comment = b"UNICODE\0".to_vec();
    comment.extend(text.encode_utf16().flat_map(u16::to_be_bytes));
    if comment.len() > MOST {
        return None;
    }
    let length = u32::try_from(comment.len()).ok()?;
    let mut block = b"MM\0\x2a".to_vec();
    block.extend(8u32.to_be_bytes());
    directory(&mut block, (POINTER, LONG, 1), SECOND);
    directory(&mut block, (USER_COMMENT, UNDEFINED, length), COMMENT);
    block.extend(comment);
    Some(block)
}

/// A directory of one entry, whose value is a number or lies at one.
fn directory(block: &mut Vec<u8>, (tag, kind, count): (u16, u16, u32), value: u32) {
    block.extend(1u16.to_be_bytes());
    block.extend(tag.to_be_bytes());
    block.extend(kind.to_be_bytes());
    block.extend(count.to_be_bytes());
    block.extend(value.to_be_bytes());
    // No further directory.
    block.extend(0u32.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_comment_lies_where_the_directories_say() {
        let block = comment("a ü").unwrap();
        let at = |offset: usize| {
            let bytes: [u8; 4] = block[offset..offset + 4].try_into().unwrap();
            u32::from_be_bytes(bytes) as usize
        };
        let first = at(4);
        assert_eq!(block[first + 2..first + 4], POINTER.to_be_bytes());
        let second = at(first + 10);
        assert_eq!(block[second + 2..second + 4], USER_COMMENT.to_be_bytes());
        let (length, place) = (at(second + 6), at(second + 10));
        assert_eq!(&block[place..place + length], b"UNICODE\0\0a\0 \0\xfc");
        assert_eq!(place + length, block.len());
        assert!(comment(&"a".repeat(40_000)).is_none());
    }
}
