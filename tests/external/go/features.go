package main

// What the driver knows of the cluster and of tables that change; rows, batches and traces.

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"sort"
	"strings"
	"sync"
	"time"

	"github.com/gocql/gocql"
)

// hosts remembers who coordinated queries.
type hosts map[string]*gocql.HostInfo

func (h hosts) ObserveQuery(_ context.Context, query gocql.ObservedQuery) {
	h[query.Host.ConnectAddress().String()] = query.Host
}

// topology: three nodes are found, each in its rack, and all are asked.
func topology(session *gocql.Session) {
	seen := hosts{}
	var name string
	eventually("all nodes are asked", func() bool {
		query := session.Query("SELECT cluster_name FROM system.local").Observer(seen)
		must(query.Scan(&name), "system.local")
		check(name == "external", "the cluster is %q", name)
		return len(seen) == len(addresses)
	})
	ids := map[string]bool{}
	for n, address := range addresses {
		host := seen[address]
		check(host != nil, "%s was not asked, but %v", address, seen)
		check(host.DataCenter() == "dc1" && host.Rack() == fmt.Sprintf("r%d", n+1),
			"%s is in %s, %s", address, host.DataCenter(), host.Rack())
		ids[host.HostID()] = true
	}
	check(len(ids) == len(addresses), "ids of the nodes: %v", ids)
}

// agreed: within a second of a change all nodes have it, and each serves the table.
func agreed(session *gocql.Session) {
	for n := 0; n < 3; n++ {
		table := fmt.Sprintf("agreed%d", n)
		began := time.Now()
		define(session, "CREATE TABLE "+keyspace+"."+table+" (k int PRIMARY KEY, v int)")
		spent := time.Since(began)
		check(spent < time.Second, "CREATE TABLE and agreement took %v", spent)
		seen := hosts{}
		eventually("each node serves "+table, func() bool {
			must(session.Query("SELECT v FROM "+table+" LIMIT 1").Observer(seen).Iter().Close(), "select")
			return len(seen) == len(addresses)
		})
	}
}

// knows tells how the driver describes a table: its columns and their types, sorted, and what they are keys of.
func knows(session *gocql.Session, table string) string {
	known, err := session.KeyspaceMetadata(keyspace)
	must(err, "metadata of the keyspace")
	found := known.Tables[table]
	if found == nil {
		return "nothing"
	}
	var columns []string
	for name, column := range found.Columns {
		columns = append(columns, fmt.Sprintf("%s %v %s", name, column.Type, column.Kind))
	}
	sort.Strings(columns)
	return strings.Join(columns, ", ")
}

// metadata: keys, statics, types, order and replication are those of the statement that made the table.
func metadata(session *gocql.Session) {
	define(session, "CREATE TABLE "+keyspace+".described (a int, b text, c timeuuid, d int, s text static, "+
		"v frozen<map<text, int>>, w set<int>, PRIMARY KEY ((a, b), c, d)) WITH CLUSTERING ORDER BY (c DESC, d ASC)")
	wanted := "a int partition_key, b text partition_key, c timeuuid clustering_key, d int clustering_key, " +
		"s text static, v map(text, int) regular, w set(int) regular"
	var found string
	eventually("the driver knows the table", func() bool {
		found = knows(session, "described")
		return found != "nothing"
	})
	check(found == wanted, "the driver knows %s", found)
	known, err := session.KeyspaceMetadata(keyspace)
	must(err, "metadata of the keyspace")
	check(strings.HasSuffix(known.StrategyClass, "NetworkTopologyStrategy"), "strategy %s", known.StrategyClass)
	check(fmt.Sprint(known.StrategyOptions["dc1"]) == "3", "options of the strategy %v", known.StrategyOptions)
	orders := known.Tables["described"].ClusteringColumns
	check(orders[0].Order == gocql.DESC && orders[1].Order == gocql.ASC, "order %v, %v", orders[0].Order, orders[1].Order)
	define(session, "DROP TABLE "+keyspace+".described")
	eventually("the driver forgets the table", func() bool { return knows(session, "described") == "nothing" })
}

// altered: columns come and go under statements that were prepared before; TRUNCATE empties the table.
func altered(session *gocql.Session) {
	table := keyspace + ".altered"
	config := cluster(keyspace)
	config.PoolConfig.HostSelectionPolicy = gocql.RoundRobinHostPolicy()
	anyone, err := config.CreateSession()
	must(err, "session that asks all nodes in turn")
	defer anyone.Close()
	define(session, "CREATE TABLE "+table+" (k int PRIMARY KEY, v int)", "INSERT INTO "+table+" (k, v) VALUES (1, 2)")
	// Gocql believes what PREPARE told it of the columns, and prepares at each node: each has to say when that is no longer so.
	columns := func(wanted string) {
		seen := hosts{}
		for turn := 0; len(seen) < len(addresses); turn++ {
			check(turn < 1000, "only %d nodes were asked", len(seen))
			row := map[string]interface{}{}
			must(anyone.Query("SELECT * FROM altered WHERE k = ?", 1).Observer(seen).MapScan(row), "select")
			check(fmt.Sprint(row) == wanted, "the row is %v, not %s", row, wanted)
		}
	}
	columns("map[k:1 v:2]")
	define(session, "ALTER TABLE "+table+" ADD tags set<text>")
	must(session.Query("UPDATE altered SET tags = tags + ? WHERE k = ?", []string{"new"}, 1).Exec(), "update")
	columns("map[k:1 tags:[new] v:2]")
	var known string
	eventually("the driver knows the column", func() bool {
		known = knows(session, "altered")
		return strings.Contains(known, "tags")
	})
	check(known == "k int partition_key, tags set(text) regular, v int regular", "the driver knows %s", known)
	define(session, "ALTER TABLE "+table+" DROP v")
	columns("map[k:1 tags:[new]]")
	check(code(session, "SELECT v FROM altered WHERE k = ?", 1) == 0x2200, "a column that was dropped is read")
	must(session.Query("TRUNCATE altered").Exec(), "truncate")
	var count int
	must(session.Query("SELECT count(*) FROM altered").Scan(&count), "count")
	check(count == 0, "TRUNCATE left %d rows", count)
	must(session.Query("INSERT INTO altered (k) VALUES (?)", 7).Exec(), "insert")
	must(session.Query("SELECT count(*) FROM altered").Scan(&count), "count")
	check(count == 1, "%d rows since", count)
}

// timestamps: the client's decides, and what has a TTL goes.
func timestamps(session *gocql.Session) {
	define(session, "CREATE TABLE "+keyspace+".timed (k int PRIMARY KEY, v text)")
	write := func(v string, at int64) {
		must(session.Query("INSERT INTO timed (k, v) VALUES (?, ?)", 1, v).WithTimestamp(at).Exec(), "insert")
	}
	write("newer", 2000)
	write("older", 1000)
	var v string
	var at int64
	read := "SELECT v, writetime(v) FROM timed WHERE k = ?"
	must(session.Query(read, 1).Scan(&v, &at), "select")
	check(v == "newer" && at == 2000, "found %s of %d", v, at)
	must(session.Query("DELETE FROM timed USING TIMESTAMP ? WHERE k = ?", 3000, 1).Exec(), "delete")
	write("before the deletion", 2999)
	check(session.Query(read, 1).Scan(&v, &at) == gocql.ErrNotFound, "a row came back that was deleted")

	var ttl int
	must(session.Query("INSERT INTO timed (k, v) VALUES (?, ?) USING TTL ?", 2, "for a day", 86400).Exec(), "insert")
	must(session.Query("SELECT ttl(v) FROM timed WHERE k = ?", 2).Scan(&ttl), "ttl")
	check(ttl > 86000 && ttl <= 86400, "%d seconds are left", ttl)
	must(session.Query("INSERT INTO timed (k, v) VALUES (?, ?) USING TTL ?", 3, "for a second", 1).Exec(), "insert")
	eventually("a row expires", func() bool { return session.Query(read, 3).Scan(&v, &at) == gocql.ErrNotFound })
}

// slices: ranges, IN, both directions, limits, groups and aggregates, and a range that is deleted.
func slices(session *gocql.Session) {
	define(session, "CREATE TABLE "+keyspace+".sliced (k int, c int, d int, v int, PRIMARY KEY (k, c, d)) "+
		"WITH CLUSTERING ORDER BY (c DESC, d ASC)")
	batch := session.NewBatch(gocql.UnloggedBatch)
	for c := 0; c < 10; c++ {
		for d := 0; d < 5; d++ {
			batch.Query("INSERT INTO sliced (k, c, d, v) VALUES (?, ?, ?, ?)", 1, c, d, 10*c+d)
		}
	}
	must(session.ExecuteBatch(batch), "batch")
	found := func(where string, values ...interface{}) string {
		iter := session.Query("SELECT v FROM sliced WHERE k = 1 "+where, values...).Iter()
		var all []int
		var v int
		for iter.Scan(&v) {
			all = append(all, v)
		}
		must(iter.Close(), where)
		return fmt.Sprint(all)
	}
	for _, each := range []struct {
		where  string
		values []interface{}
		wanted string
	}{
		{"AND c = ? AND d > ?", []interface{}{3, 2}, "[33 34]"},
		{"AND c >= ? AND c < ? LIMIT 6", []interface{}{2, 4}, "[30 31 32 33 34 20]"},
		{"AND (c, d) > (?, ?) AND (c, d) <= (?, ?)", []interface{}{2, 3, 3, 0}, "[30 24]"},
		{"AND c IN ? AND d IN ?", []interface{}{[]int{7, 1}, []int{0, 4}}, "[70 74 10 14]"},
		{"AND c < ? ORDER BY c ASC, d DESC", []interface{}{1}, "[4 3 2 1 0]"},
		{"PER PARTITION LIMIT ?", []interface{}{2}, "[90 91]"},
	} {
		is := found(each.where, each.values...)
		check(is == each.wanted, "%s: found %s, wanted %s", each.where, is, each.wanted)
	}
	must(session.Query("DELETE FROM sliced WHERE k = ? AND c >= ?", 1, 2).Exec(), "delete")
	iter := session.Query("SELECT c, count(*), max(v) FROM sliced WHERE k = ? GROUP BY k, c", 1).Iter()
	var groups []string
	var c, count, max int
	for iter.Scan(&c, &count, &max) {
		groups = append(groups, fmt.Sprintf("%d: %d, %d", c, count, max))
	}
	must(iter.Close(), "groups")
	check(strings.Join(groups, "; ") == "1: 5, 14; 0: 5, 4", "groups %v", groups)
}

// many requests in flight over one session are all answered, each with its own row.
func many(session *gocql.Session) {
	define(session, "CREATE TABLE "+keyspace+".many (k int PRIMARY KEY, v text)")
	each := func(request func(n int) error) {
		var under sync.WaitGroup
		failures := make(chan error, 2000)
		for n := 0; n < cap(failures); n++ {
			under.Add(1)
			go func(n int) {
				defer under.Done()
				if err := request(n); err != nil {
					failures <- fmt.Errorf("request %d: %w", n, err)
				}
			}(n)
		}
		under.Wait()
		close(failures)
		must(<-failures, "of two thousand")
	}
	each(func(n int) error {
		return session.Query("INSERT INTO many (k, v) VALUES (?, ?)", n, fmt.Sprint("value ", n)).Exec()
	})
	each(func(n int) error {
		var v string
		err := session.Query("SELECT v FROM many WHERE k = ?", n).Scan(&v)
		if err == nil && v != fmt.Sprint("value ", n) {
			err = fmt.Errorf("found %q", v)
		}
		return err
	})
}

// logged: a logged batch writes all of its partitions.
func logged(session *gocql.Session) {
	define(session, "CREATE TABLE "+keyspace+".logged (k int PRIMARY KEY, v text)")
	batch := session.NewBatch(gocql.LoggedBatch).WithTimestamp(77)
	for n := 0; n < 50; n++ {
		batch.Query("INSERT INTO logged (k, v) VALUES (?, ?)", n, fmt.Sprint(n))
	}
	must(session.ExecuteBatch(batch), "logged batch")
	var count int
	var first, last int64
	read := session.Query("SELECT count(*), min(writetime(v)), max(writetime(v)) FROM logged")
	must(read.Scan(&count, &first, &last), "count")
	check(count == 50 && first == 77 && last == 77, "%d rows of the batch, of %d to %d", count, first, last)
}

// id remembers under which id a request is traced.
type id []byte

func (i *id) Trace(trace []byte) { *i = append(id(nil), trace...) }

// tracing: gocql's writer of traces finds what was asked of whom, and what they answered.
func tracing(session *gocql.Session) {
	// It looks once, and the trace is written behind the answer: so it is asked until it has found the end.
	told := func(query *gocql.Query) string {
		var trace id
		var seen where
		must(query.Trace(&trace).Observer(&seen).Exec(), "traced")
		var told bytes.Buffer
		head := fmt.Sprintf("Tracing session %s (coordinator: %s, duration: ", hex.EncodeToString(trace), seen.address)
		eventually("a trace that begins with "+head, func() bool {
			told.Reset()
			gocql.NewTraceWriter(session, &told).Trace(trace)
			text := told.String()
			return strings.HasPrefix(text, head) && !strings.HasPrefix(text, head+"0s")
		})
		return told.String()
	}
	write := told(session.Query("INSERT INTO load (k, v) VALUES (?, ?)", -2, "traced").Consistency(gocql.All))
	for what, wanted := range map[string]int{
		"Sending MUTATION message to 127.0.9.":  2,
		"Merged into the memtable":              3,
		"Received acknowledgement from 127.0.9": 2,
		"ALL is reached: 3 of 3":                1,
	} {
		found := strings.Count(write, what)
		check(found == wanted, "%q is said %d times, not %d: %s", what, found, wanted, write)
	}
	for _, address := range addresses {
		check(strings.Contains(write, "(source: "+address+", elapsed: "), "nothing of %s: %s", address, write)
	}
	read := told(session.Query("SELECT v FROM load WHERE k = ?", -2))
	for _, what := range []string{"Received data from", "Received digest from", "QUORUM is reached: 2 of 2", "Answering with 1 row"} {
		check(strings.Contains(read, what), "%q is not said: %s", what, read)
	}
}

// code is that of the error with which a statement is refused.
func code(session *gocql.Session, statement string, values ...interface{}) int {
	err := session.Query(statement, values...).RetryPolicy(nil).Exec()
	var request gocql.RequestError
	check(errors.As(err, &request), "%s: no error of the server, but %v", statement, err)
	return request.Code()
}
