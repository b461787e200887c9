//! Every bound of the RESP codec, with its unit and the reason for its size.
//!
//! The constants are absolute: buffers are sized by them. [`RespLimits`] holds what configuration may lower.
//! Nothing here may be derived from input.

/// Arguments a command may have, its name included; also the capacity of an `ArgVec`, which lives on the stack.
/// The longest native command (CLAIM with all its options) has 17.
pub const ARGS_MAX: usize = 32;

/// Bytes of one argument. Outcomes are the largest ones (64 KiB by default, S8 `max_outcome`).
pub const BULK_BYTES_MAX: usize = 1 << 20;

/// Bytes of all arguments of one command with their framing: what one connection can make us buffer.
pub const COMMAND_BYTES_MAX: usize = (1 << 20) + (128 << 10);

/// Bytes of an inline command's line. Redis's own number.
pub const INLINE_BYTES_MAX: usize = 64 << 10;

/// Bytes of a `*N` or `$N` line without its CRLF. The longest 64-bit integer has 20.
pub const LENGTH_LINE_BYTES_MAX: usize = 24;

/// Elements of a command we are still willing to read past after refusing it. Beyond, sync is given up, as Redis does.
pub const DISCARD_ARGS_MAX: i64 = 1 << 20;

/// Bytes of one refused command we are willing to read past. 512 MiB is Redis's `proto-max-bulk-len`.
pub const DISCARD_BYTES_MAX: u64 = 512 << 20;

/// Bytes of a client's own text that an error message quotes. Redis's own number.
pub const ERROR_QUOTE_BYTES_MAX: usize = 128;

/// Nesting a reply may have. Ours go to 3 (INSPECT: map, array, map).
pub const REPLY_DEPTH_MAX: usize = 16;

/// Values in one reply, nested ones included: bounds the memory of a reply made of tiny elements.
pub const REPLY_VALUES_MAX: usize = 4 << 20;

/// Bytes of one reply, framing included.
pub const REPLY_BYTES_MAX: usize = 64 << 20;

/// Bytes of a reply's line (simple strings, errors, numbers).
pub const REPLY_LINE_BYTES_MAX: usize = 64 << 10;

/// What the configuration may lower; the defaults are the constants above.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RespLimits {
    /// Arguments of one command, its name included; never more than [`ARGS_MAX`].
    pub args_max: usize,
    /// Bytes of one argument.
    pub bulk_bytes_max: usize,
    /// Bytes of one command with its framing.
    pub command_bytes_max: usize,
    /// Bytes of an inline command's line, without its newline.
    pub inline_bytes_max: usize,
}

impl Default for RespLimits {
    fn default() -> Self {
        Self {
            args_max: ARGS_MAX,
            bulk_bytes_max: BULK_BYTES_MAX,
            command_bytes_max: COMMAND_BYTES_MAX,
            inline_bytes_max: INLINE_BYTES_MAX,
        }
    }
}
