//! Statements that change the schema.

use super::{Kind, Outcome, Parser, Sign, Token, Word};
use crate::cql::Constant;
use crate::cql::ast::{
    AlterKeyspace, AlterTable, AlterType, ColumnDef, CreateKeyspace, CreateTable, CreateType,
    DropKeyspace, DropTable, DropType, FieldDef, Ident, Order, PrimaryKey, Property, PropertyValue,
    Statement, TableChange, TypeChange, Unsupported,
};
use std::collections::BTreeSet;

impl Parser<'_> {
    /// What stands behind `CREATE`.
    pub(super) fn create(&mut self) -> Outcome<Statement> {
        if self.eat_keyspace_word()? {
            let if_not_exists = self.if_not_exists()?;
            let keyspace = self.ident("the name of a keyspace")?;
            self.expect_word(Word::With)?;
            let properties = self.properties()?;
            let create = CreateKeyspace { keyspace, if_not_exists, properties };
            return Ok(Statement::CreateKeyspace(create));
        }
        if self.eat_table_word()? {
            return self.create_table().map(|create| Statement::CreateTable(Box::new(create)));
        }
        if self.eat_word(Word::Type)? {
            return self.create_type().map(Statement::CreateType);
        }
        self.other("CREATE", "KEYSPACE, TABLE or TYPE")
    }

    /// What stands behind `ALTER`.
    pub(super) fn alter(&mut self) -> Outcome<Statement> {
        if self.eat_keyspace_word()? {
            let if_exists = self.if_exists()?;
            let keyspace = self.ident("the name of a keyspace")?;
            self.expect_word(Word::With)?;
            let properties = self.properties()?;
            return Ok(Statement::AlterKeyspace(AlterKeyspace { keyspace, if_exists, properties }));
        }
        if self.eat_table_word()? {
            let if_exists = self.if_exists()?;
            let table = self.qualified_name("the name of a table")?;
            let change = self.table_change()?;
            return Ok(Statement::AlterTable(AlterTable { table, if_exists, change }));
        }
        if self.eat_word(Word::Type)? {
            let if_exists = self.if_exists()?;
            let name = self.qualified_name("the name of a type")?;
            let change = self.type_change()?;
            return Ok(Statement::AlterType(AlterType { name, if_exists, change }));
        }
        self.other("ALTER", "KEYSPACE, TABLE or TYPE")
    }

    /// What stands behind `DROP`.
    pub(super) fn drop(&mut self) -> Outcome<Statement> {
        if self.eat_keyspace_word()? {
            let if_exists = self.if_exists()?;
            let keyspace = self.ident("the name of a keyspace")?;
            return Ok(Statement::DropKeyspace(DropKeyspace { keyspace, if_exists }));
        }
        if self.eat_table_word()? {
            let if_exists = self.if_exists()?;
            let table = self.qualified_name("the name of a table")?;
            return Ok(Statement::DropTable(DropTable { table, if_exists }));
        }
        if self.eat_word(Word::Type)? {
            let if_exists = self.if_exists()?;
            let name = self.qualified_name("the name of a type")?;
            return Ok(Statement::DropType(DropType { name, if_exists }));
        }
        self.other("DROP", "KEYSPACE, TABLE or TYPE")
    }

    /// What Cassandra can create, alter and drop besides.
    fn other(&mut self, verb: &'static str, expected: &'static str) -> Outcome<Statement> {
        if verb == "CREATE" && self.at_word(Word::Or) && self.peek_is_word(Word::Replace) {
            self.advance()?;
            self.advance()?;
        }
        let others = [
            (Word::Index, Unsupported::Index),
            (Word::Custom, Unsupported::Index),
            (Word::Materialized, Unsupported::MaterializedView),
            (Word::Function, Unsupported::Function),
            (Word::Aggregate, Unsupported::Aggregate),
            (Word::Trigger, Unsupported::Trigger),
            (Word::Role, Unsupported::Role),
            (Word::User, Unsupported::User),
            (Word::Identity, Unsupported::Identity),
        ];
        match others.into_iter().find(|(word, _)| self.at_word(*word)) {
            Some((_, what)) => self.unsupported(verb, what),
            None => Err(self.unexpected(expected)),
        }
    }

    /// What stands behind `WITH`.
    fn properties(&mut self) -> Outcome<Vec<Property>> {
        let mut properties = Properties::default();
        loop {
            self.property(&mut properties)?;
            if !self.eat_word(Word::And)? {
                return Ok(properties.list);
            }
        }
    }

    fn property(&mut self, properties: &mut Properties) -> Outcome<()> {
        let at = self.token;
        let name = self.ident("the name of a property")?;
        self.expect_sign(Sign::Eq)?;
        let value = self.property_value()?;
        if !properties.names.insert(name.clone()) {
            return Err(self.refused(at, format!("the property {name} is set twice")));
        }
        properties.list.push(Property { name, value });
        Ok(())
    }

    fn property_value(&mut self) -> Outcome<PropertyValue> {
        if self.at_sign(Sign::BraceOpen) {
            return self.property_map().map(PropertyValue::Map);
        }
        if self.at_ident() && self.token.kind == Kind::Word {
            return self.any_word().map(PropertyValue::Word);
        }
        self.property_constant("a constant, a map of constants, or a word")
            .map(PropertyValue::Constant)
    }

    /// A constant, but not null. There are no bind markers here: a schema has no values to be bound later.
    fn property_constant(&mut self, expected: &'static str) -> Outcome<Constant> {
        if self.at_word(Word::Null) {
            return Err(self.unexpected(expected));
        }
        self.constant()?.ok_or_else(|| self.unexpected(expected))
    }

    fn property_map(&mut self) -> Outcome<Vec<(Constant, Constant)>> {
        self.expect_sign(Sign::BraceOpen)?;
        let mut entries = Vec::new();
        let mut keys = BTreeSet::new();
        if self.eat_sign(Sign::BraceClose)? {
            return Ok(entries);
        }
        loop {
            let at = self.token;
            let key = self.property_constant("a key, which is a constant")?;
            if !keys.insert(key.to_string()) {
                return Err(self.refused(at, format!("the key {key} stands twice in the map")));
            }
            self.expect_sign(Sign::Colon)?;
            entries.push((key, self.property_constant("a value, which is a constant")?));
            if !self.goes_on(Sign::BraceClose, "`,` or `}`")? {
                return Ok(entries);
            }
        }
    }

    fn create_table(&mut self) -> Outcome<CreateTable> {
        let if_not_exists = self.if_not_exists()?;
        let at = self.token;
        let table = self.qualified_name("the name of a table")?;
        self.expect_sign(Sign::ParenOpen)?;
        let mut columns = Vec::new();
        let mut primary_key = None;
        loop {
            self.table_element(&mut columns, &mut primary_key)?;
            if !self.goes_on(Sign::ParenClose, "`,`, `)`, STATIC or PRIMARY KEY")? {
                break;
            }
            // A comma may stand behind the last one too.
            if self.eat_sign(Sign::ParenClose)? {
                break;
            }
        }
        let Some(primary_key) = primary_key else {
            let why = format!("the table {table} has no PRIMARY KEY; it wants exactly one");
            return Err(self.refused(at, why));
        };
        let mut table = CreateTable {
            table,
            if_not_exists,
            columns,
            primary_key,
            clustering_order: Vec::new(),
            compact_storage: false,
            properties: Vec::new(),
        };
        let mut properties = Properties::default();
        let mut more = self.eat_word(Word::With)?;
        while more {
            self.table_property(&mut table, &mut properties)?;
            more = self.eat_word(Word::And)?;
        }
        table.properties = properties.list;
        Ok(table)
    }

    /// A column, or `PRIMARY KEY (…)`.
    fn table_element(
        &mut self,
        columns: &mut Vec<ColumnDef>,
        primary_key: &mut Option<PrimaryKey>,
    ) -> Outcome<()> {
        let at = self.token;
        if self.eat_word(Word::Primary)? {
            self.expect_word(Word::Key)?;
            let key = self.primary_key()?;
            return self.only_key(at, primary_key, key);
        }
        let column = self.column_def("a column or PRIMARY KEY")?;
        let at = self.token;
        if self.eat_word(Word::Primary)? {
            self.expect_word(Word::Key)?;
            let key = PrimaryKey { partition: vec![column.name.clone()], clustering: Vec::new() };
            self.only_key(at, primary_key, key)?;
        }
        columns.push(column);
        Ok(())
    }

    fn only_key(&self, at: Token, slot: &mut Option<PrimaryKey>, key: PrimaryKey) -> Outcome<()> {
        match slot.replace(key) {
            None => Ok(()),
            Some(_) => {
                Err(self.refused(at, "a table wants exactly one PRIMARY KEY, this is the second"))
            }
        }
    }

    /// `(a, b)` or `((a, b), c)`.
    fn primary_key(&mut self) -> Outcome<PrimaryKey> {
        self.expect_sign(Sign::ParenOpen)?;
        let partition = if self.eat_sign(Sign::ParenOpen)? {
            self.idents_to_close("a column")?
        } else {
            vec![self.ident("a column, or columns in parentheses")?]
        };
        let mut clustering = Vec::new();
        while self.goes_on(Sign::ParenClose, "`,` or `)`")? {
            clustering.push(self.ident("a column")?);
        }
        Ok(PrimaryKey { partition, clustering })
    }

    /// `name type [STATIC]`.
    fn column_def(&mut self, expected: &'static str) -> Outcome<ColumnDef> {
        let name = self.ident(expected)?;
        let of = self.type_name()?;
        Ok(ColumnDef { name, of, is_static: self.eat_word(Word::Static)? })
    }

    /// `COMPACT STORAGE`, `CLUSTERING ORDER BY (…)` or a property.
    fn table_property(
        &mut self,
        table: &mut CreateTable,
        properties: &mut Properties,
    ) -> Outcome<()> {
        let at = self.token;
        if self.at_word(Word::Compact) && self.peek_is_word(Word::Storage) {
            self.advance()?;
            self.advance()?;
            table.compact_storage = true;
            return Ok(());
        }
        if !(self.at_word(Word::Clustering) && self.peek_is_word(Word::Order)) {
            return self.property(properties);
        }
        self.advance()?;
        self.expect_words(&[Word::Order, Word::By])?;
        let order = self.clustering_order()?;
        if !table.clustering_order.is_empty() {
            return Err(self.refused(at, "CLUSTERING ORDER BY is said twice"));
        }
        table.clustering_order = order;
        Ok(())
    }

    /// `(a ASC, b DESC)`.
    fn clustering_order(&mut self) -> Outcome<Vec<(Ident, Order)>> {
        self.expect_sign(Sign::ParenOpen)?;
        let mut columns = Vec::new();
        loop {
            let column = self.ident("a clustering column")?;
            let Some(order) = self.eat_order()? else {
                return Err(self.unexpected("ASC or DESC"));
            };
            columns.push((column, order));
            if !self.goes_on(Sign::ParenClose, "`,` or `)`")? {
                return Ok(columns);
            }
        }
    }

    fn table_change(&mut self) -> Outcome<TableChange> {
        if self.eat_word(Word::Add)? {
            let if_not_exists = self.if_not_exists()?;
            let columns = self.one_or_many(|parser| parser.column_def("a column"))?;
            return Ok(TableChange::Add { if_not_exists, columns });
        }
        if self.eat_word(Word::Drop)? {
            return self.dropped_columns();
        }
        if self.eat_word(Word::Rename)? {
            let (if_exists, renames) = self.renames("a column")?;
            return Ok(TableChange::Rename { if_exists, renames });
        }
        if self.eat_word(Word::Alter)? {
            let column = self.ident("a column")?;
            self.expect_word(Word::Type)?;
            return Ok(TableChange::AlterType { column, to: self.type_name()? });
        }
        if self.eat_word(Word::With)? {
            return self.properties().map(TableChange::With);
        }
        Err(self.unexpected("ADD, DROP, RENAME, ALTER or WITH"))
    }

    fn dropped_columns(&mut self) -> Outcome<TableChange> {
        if self.at_word(Word::Compact) && self.peek_is_word(Word::Storage) {
            self.advance()?;
            self.advance()?;
            return Ok(TableChange::DropCompactStorage);
        }
        let if_exists = self.if_exists()?;
        let columns = self.one_or_many(|parser| parser.ident("a column"))?;
        let mut timestamp = None;
        if self.eat_word(Word::Using)? {
            self.expect_word(Word::Timestamp)?;
            timestamp = Some(self.integer("a whole number")?);
        }
        Ok(TableChange::Drop { if_exists, columns, timestamp })
    }

    /// `a, b` or `(a, b)`.
    fn one_or_many<T>(&mut self, one: impl Fn(&mut Self) -> Outcome<T>) -> Outcome<Vec<T>> {
        let parens = self.eat_sign(Sign::ParenOpen)?;
        let mut many = vec![one(self)?];
        while self.eat_sign(Sign::Comma)? {
            many.push(one(self)?);
        }
        if parens && !self.eat_sign(Sign::ParenClose)? {
            return Err(self.unexpected("`,` or `)`"));
        }
        Ok(many)
    }

    /// `[IF EXISTS] a TO b AND c TO d`.
    fn renames(&mut self, expected: &'static str) -> Outcome<(bool, Vec<(Ident, Ident)>)> {
        let if_exists = self.if_exists()?;
        let mut renames = Vec::new();
        loop {
            let from = self.ident(expected)?;
            self.expect_word(Word::To)?;
            renames.push((from, self.ident("the new name")?));
            if !self.eat_word(Word::And)? {
                return Ok((if_exists, renames));
            }
        }
    }

    fn create_type(&mut self) -> Outcome<CreateType> {
        let if_not_exists = self.if_not_exists()?;
        let name = self.qualified_name("the name of a type")?;
        self.expect_sign(Sign::ParenOpen)?;
        let mut fields = vec![self.field_def()?];
        while self.goes_on(Sign::ParenClose, "`,` or `)`")? {
            // A comma may stand behind the last one too.
            if self.eat_sign(Sign::ParenClose)? {
                break;
            }
            fields.push(self.field_def()?);
        }
        Ok(CreateType { name, if_not_exists, fields })
    }

    /// `name type`.
    fn field_def(&mut self) -> Outcome<FieldDef> {
        let name = self.ident("the name of a field")?;
        Ok(FieldDef { name, of: self.type_name()? })
    }

    fn type_change(&mut self) -> Outcome<TypeChange> {
        if self.eat_word(Word::Add)? {
            let if_not_exists = self.if_not_exists()?;
            return Ok(TypeChange::Add { if_not_exists, field: self.field_def()? });
        }
        if self.eat_word(Word::Rename)? {
            let (if_exists, renames) = self.renames("a field")?;
            return Ok(TypeChange::Rename { if_exists, renames });
        }
        if self.eat_word(Word::Alter)? {
            let field = self.ident("a field")?;
            self.expect_word(Word::Type)?;
            return Ok(TypeChange::AlterType { field, to: self.type_name()? });
        }
        Err(self.unexpected("ADD, RENAME or ALTER"))
    }
}

/// What is collected behind `WITH`.
#[derive(Default)]
struct Properties {
    list: Vec<Property>,
    /// Their names, so that a name twice is noticed without looking through the list.
    names: BTreeSet<Ident>,
}
