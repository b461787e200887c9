//! A list that is almost always empty or of one element, and then allocates nothing.
//!
//! Why not `SmallVec`? It is invariant in its elements' lifetimes, and entries are joined from bytes
//! of different lifetimes (a stored record, a frame).

use std::ops::{Deref, DerefMut};

/// See the module's text.
#[derive(Clone, Debug, Default)]
pub enum Few<T> {
    /// Nothing.
    #[default]
    None,
    /// One element.
    One(T),
    /// Several; may have shrunk to fewer again.
    Many(Vec<T>),
}

impl<T> Deref for Few<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        match self {
            Self::None => &[],
            Self::One(element) => std::slice::from_ref(element),
            Self::Many(elements) => elements,
        }
    }
}

impl<T> DerefMut for Few<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        match self {
            Self::None => &mut [],
            Self::One(element) => std::slice::from_mut(element),
            Self::Many(elements) => elements,
        }
    }
}

impl<T: PartialEq> PartialEq for Few<T> {
    fn eq(&self, other: &Self) -> bool {
        self[..] == other[..]
    }
}

impl<T: Eq> Eq for Few<T> {}

impl<T> FromIterator<T> for Few<T> {
    fn from_iter<I: IntoIterator<Item = T>>(elements: I) -> Self {
        let mut few = Self::None;
        elements.into_iter().for_each(|element| few.push(element));
        few
    }
}

impl<T> Few<T> {
    /// Adds at the end.
    pub fn push(&mut self, element: T) {
        self.insert(self.len(), element);
    }

    /// Adds before position `at`, which is at most the length.
    pub fn insert(&mut self, at: usize, element: T) {
        *self = match std::mem::take(self) {
            Self::None => Self::One(element),
            Self::One(only) => {
                let mut elements = Vec::with_capacity(4);
                elements.push(only);
                elements.insert(at, element);
                Self::Many(elements)
            }
            Self::Many(mut elements) => {
                elements.insert(at, element);
                Self::Many(elements)
            }
        };
    }

    /// Takes out position `at`.
    pub fn remove(&mut self, at: usize) {
        let mut position = 0;
        self.retain(|_| {
            position += 1;
            position - 1 != at
        });
    }

    /// Keeps what `keep` says.
    pub fn retain(&mut self, mut keep: impl FnMut(&T) -> bool) {
        match self {
            Self::None => {}
            Self::One(element) => {
                if !keep(element) {
                    *self = Self::None;
                }
            }
            Self::Many(elements) => elements.retain(keep),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn behaves_as_a_vec_does() {
        let mut few: Few<u32> = Few::default();
        assert!(few.is_empty());
        few.push(2);
        few.insert(0, 1);
        few.insert(1, 9);
        assert_eq!(&few[..], [1, 9, 2]);
        few.remove(1);
        few.retain(|&element| element != 2);
        assert_eq!(few, Few::One(1));
        few.retain(|_| false);
        assert_eq!(few, Few::None);
    }
}
