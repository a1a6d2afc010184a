//! Which bytes of a database count: a plain walk over the tree, with none of inspection's own code, in the simplest way
//! that there is. It only has to work on whole databases.

/// What a byte is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// No page that is reached from the root.
    Free,
    /// In a page that is reached, behind its content.
    Slack,
    /// Headers, elements, positions, names, branch keys.
    Structure,
    /// Key or value in the bucket `key`: HashKV vouches for it.
    Hashed,
    /// Key or value of an old version in the bucket `key` that HashKV passes over, as compacted.
    Old,
    /// Key of any other bucket.
    OtherKey,
    /// Value of any other bucket: nobody vouches for it.
    OtherValue,
}

/// The use of each byte, where HashKV is asked for at the last revision and all up to `compact` is compacted.
pub fn map(database: &[u8], compact: i64) -> Vec<Use> {
    let page_bytes = number(database, 16 + 8, 4);
    let txid = |page: usize| number(database, page * page_bytes + 16 + 48, 8);
    let meta = if txid(0) > txid(1) { 0 } else { page_bytes };
    let mut map = Map { database, page_bytes, uses: vec![Use::Free; database.len()], rows: Vec::new() };
    for page in 0..2 {
        map.set(page * page_bytes, page_bytes, Use::Slack);
        map.set(page * page_bytes, 80, Use::Structure);
    }
    map.page(number(database, meta + 32, 8), None);
    map.old(compact);
    map.uses
}

struct Map<'a> {
    database: &'a [u8],
    page_bytes: usize,
    uses: Vec<Use>,
    /// Of the bucket `key`: place and length of key and value.
    rows: Vec<(usize, usize, usize)>,
}

impl Map<'_> {
    fn set(&mut self, at: usize, bytes: usize, to: Use) {
        self.uses[at..at + bytes].fill(to);
    }

    fn page(&mut self, page: usize, bucket: Option<&[u8]>) {
        let at = page * self.page_bytes;
        let pages = number(self.database, at + 12, 4) + 1;
        self.set(at, pages * self.page_bytes, Use::Slack);
        self.content(at, bucket);
    }

    fn content(&mut self, at: usize, bucket: Option<&[u8]>) {
        let database = self.database;
        let (branch, count) = (number(database, at + 8, 2) == 1, number(database, at + 10, 2));
        self.set(at, 16 + 16 * count, Use::Structure);
        for element in (0..count).map(|index| at + 16 + 16 * index) {
            if branch {
                let key = element + number(database, element, 4);
                self.set(key, number(database, element + 4, 4), Use::Structure);
                self.page(number(database, element + 8, 8), bucket);
                continue;
            }
            let key = element + number(database, element + 4, 4);
            let key_bytes = number(database, element + 8, 4);
            let (value, value_bytes) = (key + key_bytes, number(database, element + 12, 4));
            match bucket {
                None => self.bucket(&database[key..value], key, value, value_bytes),
                Some(b"key") => {
                    self.set(key, key_bytes + value_bytes, Use::Hashed);
                    self.rows.push((key, key_bytes, value_bytes));
                }
                Some(_) => {
                    self.set(key, key_bytes, Use::OtherKey);
                    self.set(value, value_bytes, Use::OtherValue);
                }
            }
        }
    }

    /// Marks what HashKV passes over.
    fn old(&mut self, compact: i64) {
        let mut newer = std::collections::HashSet::new();
        for (key, key_bytes, value_bytes) in std::mem::take(&mut self.rows).into_iter().rev() {
            let main = i64::from_be_bytes(self.database[key..key + 8].try_into().expect("eight bytes"));
            // The user's key comes first: its tag, its length, itself. None here is longer than 127 bytes.
            let value = &self.database[key + key_bytes..][..value_bytes];
            let newest = newer.insert(&value[2..2 + usize::from(value[1])]);
            if main <= compact && (!newest || key_bytes == 18) {
                self.set(key, key_bytes + value_bytes, Use::Old);
            }
        }
    }

    fn bucket(&mut self, name: &[u8], key: usize, value: usize, value_bytes: usize) {
        self.set(key, name.len() + value_bytes, Use::Structure);
        match number(self.database, value, 8) {
            0 => self.content(value + 16, Some(name)),
            root => self.page(root, Some(name)),
        }
    }
}

fn number(database: &[u8], at: usize, bytes: usize) -> usize {
    database[at..at + bytes].iter().rev().fold(0, |sum, byte| sum << 8 | usize::from(*byte))
}
