//! The words of CQL: which there are, and which of them are names only in quotes.
//!
//! A word is looked up once, when it is read; to ask afterwards whether it is this one or that one compares two small
//! numbers, and to be a name it has only to be none that is reserved.

/// The longest word that is packed; no word of CQL is longer.
const BYTES_MAX: usize = 16;

/// A word in lower case, as one number; `None`: it is too long to be one of CQL's. The characters that words are made of
/// stay apart: the bit tells capitals from small letters, and makes `_` a character that is in no word. Behind the last
/// character it makes blanks.
const fn packed(word: &[u8]) -> Option<u128> {
    const BIT: u128 = u128::from_le_bytes([0x20; BYTES_MAX]);
    let mut bytes = [0; BYTES_MAX];
    match bytes.split_at_mut_checked(word.len()) {
        Some((start, _)) => start.copy_from_slice(word),
        None => return None,
    }
    Some(u128::from_le_bytes(bytes) | BIT)
}

macro_rules! words {
    (reserved: $($reserved:ident $is_reserved:literal)*; free: $($free:ident $is_free:literal)*;) => {
        /// A word that has a meaning somewhere in CQL.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(super) enum Word { $($reserved,)* $($free,)* }

        /// What they are as numbers.
        #[expect(non_upper_case_globals, reason = "each is called as its word")]
        mod numbers {
            use super::packed;
            $(pub(super) const $reserved: Option<u128> = packed($is_reserved.as_bytes());)*
            $(pub(super) const $free: Option<u128> = packed($is_free.as_bytes());)*
        }

        impl Word {
            /// The word that this is, in capitals or not; `None`: a name, and nothing else.
            pub(super) fn of(word: &[u8]) -> Option<Word> {
                match packed(word) {
                    None => None,
                    $(numbers::$reserved => Some(Word::$reserved),)*
                    $(numbers::$free => Some(Word::$free),)*
                    Some(_) => None,
                }
            }

            /// The word as it is told when it is missing.
            pub(super) fn written(self) -> &'static str {
                match self {
                    $(Word::$reserved => $is_reserved,)*
                    $(Word::$free => $is_free,)*
                }
            }

            /// Whether it is a name only in quotes. The list is Cassandra 4.1's; all other words (`key`, `ttl`, `type`,
            /// `timestamp`, …) are names too.
            pub(super) fn is_reserved(self) -> bool {
                matches!(self, $(Word::$reserved)|*)
            }
        }
    };
}

words! {
    reserved:
        By "BY" If "IF" In "IN" Is "IS" Of "OF" On "ON" Or "OR" To "TO"
        Add "ADD" And "AND" Asc "ASC" Nan "NAN" Not "NOT" Set "SET" Use "USE"
        Desc "DESC" Drop "DROP" From "FROM" Full "FULL" Into "INTO" Null "NULL" View "VIEW" With "WITH"
        Allow "ALLOW" Alter "ALTER" Apply "APPLY" Batch "BATCH" Begin "BEGIN" Grant "GRANT" Index "INDEX"
        Limit "LIMIT" Order "ORDER" Table "TABLE" Token "TOKEN" Using "USING" Where "WHERE"
        Create "CREATE" Delete "DELETE" Insert "INSERT" Modify "MODIFY" Rename "RENAME" Revoke "REVOKE"
        Schema "SCHEMA" Select "SELECT" Update "UPDATE"
        Entries "ENTRIES" Execute "EXECUTE" Primary "PRIMARY"
        Describe "DESCRIBE" Infinity "INFINITY" Keyspace "KEYSPACE" Truncate "TRUNCATE" Unlogged "UNLOGGED"
        Authorize "AUTHORIZE" Norecursive "NORECURSIVE"
        Columnfamily "COLUMNFAMILY" Materialized "MATERIALIZED";
    free:
        As "AS"
        Key "KEY" Map "MAP" Per "PER" Ttl "TTL"
        Cast "CAST" Json "JSON" Like "LIKE" List "LIST" Only "ONLY" Role "ROLE" True "TRUE" Type "TYPE" User "USER"
        Count "COUNT" False "FALSE" Group "GROUP" Roles "ROLES" Tuple "TUPLE" Types "TYPES" Unset "UNSET" Users "USERS"
        Custom "CUSTOM" Exists "EXISTS" Frozen "FROZEN" Logged "LOGGED" Static "STATIC" Tables "TABLES" Values "VALUES"
        Vector "VECTOR"
        Cluster "CLUSTER" Compact "COMPACT" Counter "COUNTER" Default "DEFAULT" Replace "REPLACE" Storage "STORAGE"
        Trigger "TRIGGER"
        Contains "CONTAINS" Distinct "DISTINCT" Function "FUNCTION" Identity "IDENTITY"
        Aggregate "AGGREGATE" Filtering "FILTERING" Functions "FUNCTIONS" Internals "INTERNALS" Keyspaces "KEYSPACES"
        Partition "PARTITION" Timestamp "TIMESTAMP" Writetime "WRITETIME"
        Aggregates "AGGREGATES" Clustering "CLUSTERING" Superusers "SUPERUSERS"
        Maxwritetime "MAXWRITETIME"
        Columnfamilies "COLUMNFAMILIES";
}

#[cfg(test)]
mod tests {
    use super::Word;

    #[test]
    fn a_word_is_itself_in_capitals_or_not_and_nothing_else_is_it() {
        for written in ["SELECT", "select", "SeLeCt"] {
            assert_eq!(Word::of(written.as_bytes()), Some(Word::Select));
        }
        for other in
            ["", "selec", "selects", "\0select", "_select", "s3lect", "columnfamilies_of_somebody"]
        {
            assert_eq!(Word::of(other.as_bytes()), None, "{other}");
        }
        for word in [Word::Select, Word::By, Word::Columnfamilies, Word::Nan] {
            assert_eq!(Word::of(word.written().as_bytes()), Some(word));
        }
    }

    #[test]
    fn words_that_are_names_too_are_not_reserved() {
        assert!(Word::Token.is_reserved() && Word::Infinity.is_reserved());
        assert!(
            !Word::Key.is_reserved() && !Word::Timestamp.is_reserved() && !Word::True.is_reserved()
        );
    }
}
