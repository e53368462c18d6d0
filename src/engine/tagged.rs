//! One machine word that owns one of up to three heap forms, so that a collection's handle fits the word of its key's record.
//!
//! ```text
//!   63                               3 2  0
//!  +----------------------------------+----+
//!  | address of the form's allocation | tag|     never null: Option<handle> is one word too
//!  +----------------------------------+----+
//! ```
//!
//! The tag belongs to the *type* of a form (`Word::TAG`) and each form keeps it in its own word at all times. So a `Tagged` is
//! never decoded: `&Tagged` is looked at as `&Form` where it lies, a form that moves its allocation rewrites its own word, and
//! borrows last as long as the borrow of the handle. A tag in the outer word only (the obvious way) would need a
//! decoded copy on the stack, and nothing borrowed through that copy could be returned. As the tag is a constant, a form
//! subtracts it in the addressing mode, for free.

use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

/// The bits below every allocation that is aligned to 8 bytes.
const TAG_MASK: usize = 7;

/// An owner of one heap allocation that is exactly one word.
///
/// # Safety
/// The type is `repr(transparent)` over `NonNull<u8>` (or is uninhabited), and the low three bits of that pointer equal `TAG`
/// whenever the value can be observed. For `TAG = 0` that is an ordinary pointer to an allocation aligned to 8.
pub unsafe trait Word: Sized {
    /// Distinguishes the forms of one `Tagged`: 0..=7.
    const TAG: usize;

    /// Gives up ownership; the result is never null and carries the tag.
    #[inline]
    fn into_raw(self) -> NonNull<u8> {
        let this = ManuallyDrop::new(self);
        // SAFETY: by the trait's contract Self has the layout of NonNull<u8>; ManuallyDrop keeps it from being dropped.
        unsafe { std::ptr::from_ref(&*this).cast::<NonNull<u8>>().read() }
    }

    /// # Safety
    /// `raw` came from `into_raw` of the same type and is not used again.
    #[inline]
    unsafe fn from_raw(raw: NonNull<u8>) -> Self {
        // SAFETY: by the trait's contract Self has the layout of NonNull<u8>; the caller hands over ownership.
        unsafe { std::ptr::from_ref(&raw).cast::<Self>().read() }
    }
}

/// The third form of a `Tagged` that has only two.
pub enum Never {}

// SAFETY: uninhabited; no word ever carries its tag.
unsafe impl Word for Never {
    const TAG: usize = TAG_MASK;
}

/// `Box<T>` that carries a tag: the owner for forms that live behind a plain allocation.
#[repr(transparent)]
pub struct Boxed<T, const TAG: usize> {
    tagged: NonNull<u8>,
    owns: PhantomData<Box<T>>,
}

// SAFETY: repr(transparent) over NonNull<u8>; `new` sets the tag and nothing rewrites the word.
unsafe impl<T, const TAG: usize> Word for Boxed<T, TAG> {
    const TAG: usize = TAG;
}

// SAFETY: owns a T as Box does.
unsafe impl<T: Send, const TAG: usize> Send for Boxed<T, TAG> {}
// SAFETY: shares a T as Box does.
unsafe impl<T: Sync, const TAG: usize> Sync for Boxed<T, TAG> {}

impl<T, const TAG: usize> Boxed<T, TAG> {
    /// The tag is an offset into the first eight bytes of T, which are free of it in the address.
    const FITS: () = assert!(align_of::<T>() >= 8 && size_of::<T>() >= 8 && TAG <= TAG_MASK);

    pub fn new(value: T) -> Self {
        const { Self::FITS };
        let raw = Box::into_raw(Box::new(value)).cast::<u8>();
        // SAFETY: Box is never null, and FITS keeps `raw + TAG` inside the allocation.
        let tagged = unsafe { NonNull::new_unchecked(raw.add(TAG)) };
        Boxed { tagged, owns: PhantomData }
    }

    /// Takes the value out and frees the allocation.
    pub fn into_inner(self) -> T {
        let this = ManuallyDrop::new(self);
        // SAFETY: the pointer came from Box::into_raw in `new`; ManuallyDrop gives it up once.
        unsafe { *Box::from_raw(this.pointer()) }
    }

    #[inline]
    fn pointer(&self) -> *mut T {
        // SAFETY: `new` added TAG within the same allocation.
        unsafe { self.tagged.as_ptr().sub(TAG).cast() }
    }
}

impl<T, const TAG: usize> Deref for Boxed<T, TAG> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the allocation holds a T while `self` lives.
        unsafe { &*self.pointer() }
    }
}

impl<T, const TAG: usize> DerefMut for Boxed<T, TAG> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: the allocation holds a T while `self` lives, and `self` is borrowed exclusively.
        unsafe { &mut *self.pointer() }
    }
}

impl<T, const TAG: usize> Drop for Boxed<T, TAG> {
    fn drop(&mut self) {
        // SAFETY: the pointer came from Box::into_raw in `new` and is freed once, here.
        drop(unsafe { Box::from_raw(self.pointer()) });
    }
}

/// Owns an `A`, a `B` or a `C`; their tags differ (checked when compiled).
#[repr(transparent)]
pub struct Tagged<A: Word, B: Word, C: Word = Never> {
    word: NonNull<u8>,
    owns: PhantomData<(A, B, C)>,
}

/// The form that a `Tagged` holds, borrowed.
pub enum View<'a, A, B, C = Never> {
    First(&'a A),
    Second(&'a B),
    Third(&'a C),
}

/// The form that a `Tagged` holds, borrowed exclusively. A form may move its allocation through it.
pub enum ViewMut<'a, A, B, C = Never> {
    First(&'a mut A),
    Second(&'a mut B),
    Third(&'a mut C),
}

/// The form that a `Tagged` held, taken out.
pub enum Owned<A, B, C = Never> {
    First(A),
    Second(B),
    Third(C),
}

// SAFETY: owns one of A, B, C and nothing else.
unsafe impl<A: Word + Send, B: Word + Send, C: Word + Send> Send for Tagged<A, B, C> {}
// SAFETY: shares one of A, B, C and nothing else.
unsafe impl<A: Word + Sync, B: Word + Sync, C: Word + Sync> Sync for Tagged<A, B, C> {}

impl<A: Word, B: Word, C: Word> Tagged<A, B, C> {
    const DISTINCT: () = {
        assert!(A::TAG != B::TAG && A::TAG != C::TAG && B::TAG != C::TAG);
        assert!(A::TAG <= TAG_MASK && B::TAG <= TAG_MASK && C::TAG <= TAG_MASK);
    };

    #[inline]
    pub fn first(form: A) -> Self {
        Self::holding(form)
    }

    #[inline]
    pub fn second(form: B) -> Self {
        Self::holding(form)
    }

    #[inline]
    pub fn third(form: C) -> Self {
        Self::holding(form)
    }

    #[inline]
    fn holding<W: Word>(form: W) -> Self {
        const { Self::DISTINCT };
        Tagged { word: form.into_raw(), owns: PhantomData }
    }

    #[inline]
    fn tag(&self) -> usize {
        self.word.addr().get() & TAG_MASK
    }

    #[inline]
    pub fn view(&self) -> View<'_, A, B, C> {
        let tag = self.tag();
        let word = std::ptr::from_ref(&self.word);
        // SAFETY: a word that carries a form's tag is that form (only `holding` and the form itself write it), and a form has the
        // layout of NonNull<u8>, so the reference is valid for as long as `self` is borrowed.
        unsafe {
            if tag == A::TAG {
                View::First(&*word.cast())
            } else if tag == B::TAG {
                View::Second(&*word.cast())
            } else {
                View::Third(&*word.cast())
            }
        }
    }

    #[inline]
    pub fn view_mut(&mut self) -> ViewMut<'_, A, B, C> {
        let tag = self.tag();
        let word = std::ptr::from_mut(&mut self.word);
        // SAFETY: as in `view`; `self` is borrowed exclusively, and whatever the form writes into its word keeps its tag.
        unsafe {
            if tag == A::TAG {
                ViewMut::First(&mut *word.cast())
            } else if tag == B::TAG {
                ViewMut::Second(&mut *word.cast())
            } else {
                ViewMut::Third(&mut *word.cast())
            }
        }
    }

    pub fn into_owned(self) -> Owned<A, B, C> {
        let tag = self.tag();
        let word = ManuallyDrop::new(self).word;
        // SAFETY: as in `view`; ManuallyDrop hands the word over once.
        unsafe {
            if tag == A::TAG {
                Owned::First(A::from_raw(word))
            } else if tag == B::TAG {
                Owned::Second(B::from_raw(word))
            } else {
                Owned::Third(C::from_raw(word))
            }
        }
    }

    /// Puts another form in place and returns the old one.
    #[inline]
    pub fn replace(&mut self, other: Self) -> Self {
        std::mem::replace(self, other)
    }
}

impl<A: Word, B: Word, C: Word> Drop for Tagged<A, B, C> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: as in `view`; each form is dropped in place once, as `word` itself has no drop glue.
        unsafe {
            match self.view_mut() {
                ViewMut::First(form) => std::ptr::drop_in_place(form),
                ViewMut::Second(form) => std::ptr::drop_in_place(form),
                ViewMut::Third(form) => std::ptr::drop_in_place(form),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::rc::Rc;

    /// A form that moves its allocation, as a listpack does when it grows.
    #[repr(transparent)]
    struct Movable(NonNull<u8>);

    // SAFETY: transparent, and a boxed Rc is aligned to 8.
    unsafe impl Word for Movable {
        const TAG: usize = 0;
    }

    impl Movable {
        fn new(value: Rc<u64>) -> Self {
            Movable(NonNull::new(Box::into_raw(Box::new(value)).cast()).unwrap())
        }
        fn value(&self) -> &Rc<u64> {
            unsafe { &*self.0.as_ptr().cast() }
        }
        fn grow(&mut self) {
            let value = self.value().clone();
            *self = Movable::new(value);
        }
    }

    impl Drop for Movable {
        fn drop(&mut self) {
            drop(unsafe { Box::from_raw(self.0.as_ptr().cast::<Rc<u64>>()) });
        }
    }

    type Two = Tagged<Movable, Boxed<Rc<u64>, 1>>;
    type Three = Tagged<Movable, Boxed<Rc<u64>, 1>, Boxed<[Rc<u64>; 2], 2>>;

    #[test]
    fn handles_are_one_word() {
        assert_eq!(size_of::<Two>(), 8);
        assert_eq!(size_of::<Option<Three>>(), 8);
    }

    #[test]
    fn forms_are_seen_changed_and_dropped_once() {
        let witness = Rc::new(5u64);
        let mut word = Three::first(Movable::new(witness.clone()));
        if let ViewMut::First(form) = word.view_mut() {
            form.grow();
        }
        assert!(matches!(word.view(), View::First(form) if **form.value() == 5));
        let old = word.replace(Three::second(Boxed::new(witness.clone())));
        assert_eq!(Rc::strong_count(&witness), 3);
        drop(old);
        assert!(matches!(word.view(), View::Second(form) if ***form == 5));
        if let ViewMut::Second(form) = word.view_mut() {
            **form = Rc::new(6);
        }
        assert_eq!(Rc::strong_count(&witness), 1);
        let Owned::Second(form) = word.into_owned() else { panic!("second form expected") };
        assert_eq!(*form.into_inner(), 6);
        let pair = Three::third(Boxed::new([witness.clone(), witness.clone()]));
        assert!(matches!(pair.view(), View::Third(form) if *form[1] == 5));
        drop(pair);
        assert_eq!(Rc::strong_count(&witness), 1);
    }

    #[test]
    fn two_forms_leave_the_third_impossible() {
        let word = Two::second(Boxed::new(Rc::new(1)));
        match word.view() {
            View::First(_) => unreachable!(),
            View::Second(form) => assert_eq!(***form, 1),
            View::Third(never) => match *never {},
        }
    }
}
