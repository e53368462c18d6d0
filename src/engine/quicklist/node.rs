//! One node of a quicklist: its forms, its limits, squeezing and unsqueezing.

use std::borrow::Cow;

use super::Contents;
use crate::base::lzf;
use crate::engine::limits::Limits;
use crate::engine::listpack::Listpack;

/// Nodes below this size are not worth squeezing.
const MIN_SQUEEZE_BYTES: usize = 48;
/// Squeezing must save this much.
const MIN_SQUEEZE_GAIN: usize = 8;
/// Bound of a node that is limited by its element count.
const SAFETY_BYTES: usize = 8192;

#[derive(Clone)]
pub(super) struct Node {
    form: Form,
    count: u32,
    /// LZF was tried and did not help; forgotten when the node changes.
    incompressible: bool,
}

#[derive(Clone)]
pub(super) enum Form {
    Pack(Listpack),
    Plain(Box<[u8]>),
    Squeezed(Box<Squeezed>),
}

#[derive(Clone)]
pub(super) struct Squeezed {
    bytes: Box<[u8]>,
    raw_len: usize,
    plain: bool,
}

/// A node as RDB stores it.
pub enum NodeView<'a> {
    Pack(&'a [u8]),
    Plain(&'a [u8]),
    /// LZF of either.
    Squeezed {
        bytes: &'a [u8],
        raw_len: usize,
        plain: bool,
    },
}

impl NodeView<'_> {
    /// Bytes without compression.
    pub fn raw_len(&self) -> usize {
        match self {
            NodeView::Pack(bytes) | NodeView::Plain(bytes) => bytes.len(),
            NodeView::Squeezed { raw_len, .. } => *raw_len,
        }
    }
}

impl Node {
    pub(super) fn pack(pack: Listpack) -> Self {
        let count = pack.len() as u32;
        Node { form: Form::Pack(pack), count, incompressible: false }
    }

    /// A node that holds `text` alone, plain if it is large.
    pub(super) fn single(text: &[u8], limit: &NodeLimit) -> Self {
        if limit.is_large(text) {
            return Self::plain(text.to_vec());
        }
        let mut pack = Listpack::new();
        pack.push_back(text);
        Self::pack(pack)
    }

    pub(super) fn plain(bytes: Vec<u8>) -> Self {
        Node { form: Form::Plain(bytes.into_boxed_slice()), count: 1, incompressible: false }
    }

    #[inline]
    pub(super) fn count(&self) -> usize {
        self.count as usize
    }

    pub(super) fn view(&self) -> NodeView<'_> {
        match &self.form {
            Form::Pack(pack) => NodeView::Pack(pack.as_bytes()),
            Form::Plain(bytes) => NodeView::Plain(bytes),
            Form::Squeezed(s) => NodeView::Squeezed { bytes: &s.bytes, raw_len: s.raw_len, plain: s.plain },
        }
    }

    pub(super) fn memory(&self) -> usize {
        match &self.form {
            Form::Pack(pack) => pack.memory(),
            Form::Plain(bytes) => bytes.len(),
            Form::Squeezed(s) => size_of::<Squeezed>() + s.bytes.len(),
        }
    }

    pub(super) fn contents(&self) -> Contents<'_> {
        match &self.form {
            Form::Pack(pack) => Contents::Pack(Cow::Borrowed(pack)),
            Form::Plain(bytes) => Contents::Plain(Cow::Borrowed(bytes)),
            Form::Squeezed(squeezed) => match squeezed.restore() {
                Form::Pack(pack) => Contents::Pack(Cow::Owned(pack)),
                Form::Plain(bytes) => Contents::Plain(Cow::Owned(bytes.into_vec())),
                Form::Squeezed(_) => unreachable!("restore yields a raw form"),
            },
        }
    }

    /// The form for change: unsqueezed, and the memory of failed squeezing forgotten.
    pub(super) fn form_mut(&mut self) -> &mut Form {
        self.unsqueeze();
        self.incompressible = false;
        &mut self.form
    }

    /// The listpack for reading where a squeezed one is not expected to count (limits, merging).
    pub(super) fn as_pack(&self) -> Option<&Listpack> {
        match &self.form {
            Form::Pack(pack) => Some(pack),
            Form::Plain(_) | Form::Squeezed(_) => None,
        }
    }

    /// Runs a change on the node's listpack and takes over its new count. The node must not be plain.
    pub(super) fn change_pack<R>(&mut self, change: impl FnOnce(&mut Listpack) -> R) -> R {
        let Form::Pack(pack) = self.form_mut() else { unreachable!("a plain node is changed as a whole") };
        let result = change(pack);
        self.count = pack.len() as u32;
        result
    }

    pub(super) fn is_plain(&self) -> bool {
        match &self.form {
            Form::Pack(_) => false,
            Form::Plain(_) => true,
            Form::Squeezed(squeezed) => squeezed.plain,
        }
    }

    pub(super) fn into_pack(self) -> Option<Listpack> {
        match self.form {
            Form::Pack(pack) => Some(pack),
            Form::Plain(_) | Form::Squeezed(_) => None,
        }
    }

    pub(super) fn unsqueeze(&mut self) {
        if let Form::Squeezed(squeezed) = &self.form {
            self.form = squeezed.restore();
        }
    }

    pub(super) fn squeeze(&mut self) {
        let (raw, plain) = match &self.form {
            Form::Pack(pack) => (pack.as_bytes(), false),
            Form::Plain(bytes) => (&**bytes, true),
            Form::Squeezed(_) => return,
        };
        if self.incompressible || raw.len() < MIN_SQUEEZE_BYTES {
            return;
        }
        match lzf::compress(raw, raw.len() - MIN_SQUEEZE_GAIN) {
            Some(bytes) => {
                let squeezed = Squeezed { bytes: bytes.into_boxed_slice(), raw_len: raw.len(), plain };
                self.form = Form::Squeezed(Box::new(squeezed));
            }
            None => self.incompressible = true,
        }
    }
}

impl Squeezed {
    fn restore(&self) -> Form {
        let raw = lzf::decompress(&self.bytes, self.raw_len).expect("we compressed these bytes ourselves");
        if self.plain {
            Form::Plain(raw.into_boxed_slice())
        } else {
            Form::Pack(Listpack::from_bytes(&raw).expect("we compressed this listpack ourselves"))
        }
    }
}

/// How much a node may hold.
pub(in crate::engine) struct NodeLimit {
    bytes: usize,
    count: usize,
    large: usize,
}

impl NodeLimit {
    pub(in crate::engine) fn new(limits: &Limits) -> Self {
        let fill = limits.list_max_listpack_size;
        let (bytes, count) = match fill {
            1.. => (SAFETY_BYTES, fill as usize),
            0 => (SAFETY_BYTES, 1),
            // −1 is 4 KB; each step down doubles, −5 and beyond is 64 KB.
            _ => (2048 << fill.unsigned_abs().min(5), usize::MAX),
        };
        NodeLimit { bytes, count, large: limits.packed_threshold.min(bytes + 1) }
    }

    /// Whether an element gets a node of its own.
    pub(in crate::engine) fn is_large(&self, text: &[u8]) -> bool {
        text.len() >= self.large
    }

    pub(in crate::engine) fn holds(&self, bytes: usize, count: usize) -> bool {
        bytes <= self.bytes && count <= self.count
    }

    /// Half of the limit: where merging and shrinking stop, so that they do not alternate with splitting and growing.
    pub(in crate::engine) fn holds_twice(&self, bytes: usize, count: usize) -> bool {
        bytes <= self.bytes / 2 && count <= self.count / 2
    }

    pub(super) fn accepts(&self, node: &Node, text: &[u8]) -> bool {
        !self.is_large(text)
            && node
                .as_pack()
                .is_some_and(|pack| self.holds(pack.byte_len() + Listpack::entry_size(text), node.count() + 1))
    }
}
