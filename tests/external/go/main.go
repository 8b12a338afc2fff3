// Gocql 1.3 against three real nodes: its view of the cluster, prepared queries, slices, pages, batches, conditions, counters,
// collections, tables that change, traces, and a killed node.
//
// The nodes run already; EXT_DIR and EXT_HELENUS say where, EXT_NODES is the script that kills and starts them.
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"sort"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gocql/gocql"
	"gopkg.in/inf.v0"
)

const keyspace = "gocql_suite"

var addresses = []string{"127.0.9.1", "127.0.9.2", "127.0.9.3"}

// check says what went wrong by panicking; `run` turns that into a failure of the test.
func check(right bool, format string, values ...interface{}) {
	if !right {
		panic(fmt.Sprintf(format, values...))
	}
}

func must(err error, what string) {
	if err != nil {
		panic(fmt.Sprintf("%s: %v", what, err))
	}
}

// eventually waits until a condition holds, for at most twenty seconds.
func eventually(what string, condition func() bool) {
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); {
		if condition() {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	panic(what + ": not within 20 s")
}

func run(name string, test func()) (passed bool) {
	started := time.Now()
	defer func() {
		if failure := recover(); failure != nil {
			fmt.Printf("FAIL %s: %v\n", name, failure)
			return
		}
		fmt.Printf("ok   %s (%.1f s)\n", name, time.Since(started).Seconds())
		passed = true
	}()
	test()
	return // what the deferred function makes of it
}

func cluster(keyspace string) *gocql.ClusterConfig {
	config := gocql.NewCluster(addresses...)
	config.ProtoVersion = 4
	config.Keyspace = keyspace
	config.Consistency = gocql.Quorum
	config.Timeout = 10 * time.Second
	config.ConnectTimeout = 5 * time.Second
	config.ReconnectInterval = 500 * time.Millisecond
	config.Compressor = gocql.SnappyCompressor{}
	config.RetryPolicy = &gocql.SimpleRetryPolicy{NumRetries: 5}
	config.PoolConfig.HostSelectionPolicy = gocql.TokenAwareHostPolicy(gocql.RoundRobinHostPolicy())
	return config
}

func connect(keyspace string) *gocql.Session {
	session, err := cluster(keyspace).CreateSession()
	must(err, "session with keyspace '"+keyspace+"'")
	return session
}

func define(session *gocql.Session, statements ...string) {
	for _, statement := range statements {
		must(session.Query(statement).Exec(), statement)
	}
	must(session.AwaitSchemaAgreement(context.Background()), "schema agreement")
}

func setUp() {
	session := connect("")
	defer session.Close()
	replication := "WITH replication = {'class': 'NetworkTopologyStrategy', 'dc1': %d}"
	define(session,
		"DROP KEYSPACE IF EXISTS "+keyspace,
		"DROP KEYSPACE IF EXISTS "+keyspace+"_one",
		"CREATE KEYSPACE "+keyspace+" "+fmt.Sprintf(replication, 3),
		"CREATE KEYSPACE "+keyspace+"_one "+fmt.Sprintf(replication, 1),
		"CREATE TABLE "+keyspace+"_one.placed (a text, b int, v int, PRIMARY KEY ((a, b)))",
		"CREATE TABLE "+keyspace+".kinds (k int PRIMARY KEY, big bigint, bin blob, yes boolean, exact decimal, "+
			"wide double, slim float, addr inet, tiny tinyint, words frozen<list<text>>, counts frozen<map<text, int>>, "+
			"at timestamp, id uuid, made timeuuid, huge varint)",
		"CREATE TABLE "+keyspace+".rows (k int, c int, v text, PRIMARY KEY (k, c)) WITH CLUSTERING ORDER BY (c DESC)",
		"CREATE TABLE "+keyspace+".parts (k int PRIMARY KEY, words set<text>, counts map<text, int>, steps list<int>)",
		"CREATE TABLE "+keyspace+".counted (k int PRIMARY KEY, n counter, m counter)",
		"CREATE TABLE "+keyspace+".load (k int PRIMARY KEY, v text)")
}

// ring maps tokens to the addresses of the nodes that own them, as the nodes' system tables say.
func ring(session *gocql.Session) ([]int64, map[int64]string) {
	owners := map[int64]string{}
	add := func(tokens []string, address string) {
		for _, text := range tokens {
			token, err := strconv.ParseInt(text, 10, 64)
			must(err, "token "+text)
			owners[token] = address
		}
	}
	var tokens []string
	var address string
	// Every node tells its own: a session asks whom it likes, so that each is asked until all three have answered.
	eventually("all nodes' tokens", func() bool {
		must(session.Query("SELECT rpc_address, tokens FROM system.local").Scan(&address, &tokens), "system.local")
		add(tokens, address)
		return len(owners) == 48
	})
	sorted := make([]int64, 0, len(owners))
	for token := range owners {
		sorted = append(sorted, token)
	}
	sort.Slice(sorted, func(i, j int) bool { return sorted[i] < sorted[j] })
	return sorted, owners
}

// where remembers who coordinated the last query that carried it.
type where struct{ address string }

func (w *where) ObserveQuery(_ context.Context, query gocql.ObservedQuery) {
	w.address = query.Host.ConnectAddress().String()
}

// elements: those of collections are written one by one and read together.
func elements(session *gocql.Session) {
	change := "UPDATE parts SET words = words + ?, counts[?] = ?, steps = steps + ? WHERE k = 1"
	for n := 0; n < 3; n++ {
		word := fmt.Sprintf("word%d", n)
		must(session.Query(change, []string{word}, word, n, []int{n}).Exec(), "adding")
	}
	must(session.Query("UPDATE parts SET words = words - ?, steps[?] = ? WHERE k = 1", []string{"word1"}, 0, 7).Exec(), "changing")
	must(session.Query("DELETE counts[?] FROM parts WHERE k = 1", "word0").Exec(), "deleting")
	var words []string
	var counts map[string]int
	var steps []int
	must(session.Query("SELECT words, counts, steps FROM parts WHERE k = 1").Scan(&words, &counts, &steps), "select")
	found := fmt.Sprint(words, counts, steps)
	check(found == "[word0 word2] map[word1:1 word2:2] [7 1 2]", "found %s", found)
}

// counters: added to one by one and in a batch, which may say one counter twice.
func counters(session *gocql.Session) {
	for n := 1; n <= 20; n++ {
		must(session.Query("UPDATE counted SET n = n + ?, m = m - 1 WHERE k = ?", int64(n), 1).Exec(), "adding")
	}
	batch := session.NewBatch(gocql.CounterBatch)
	for n := 0; n < 3; n++ {
		batch.Query("UPDATE counted SET n = n + ? WHERE k = ?", int64(100), 1)
	}
	must(session.ExecuteBatch(batch), "batch")
	var n, m int64
	must(session.Query("SELECT n, m FROM counted WHERE k = 1").Scan(&n, &m), "select")
	check(n == 510 && m == -20, "found %d and %d", n, m)
}

// tokenAware: with one copy of each row, writes go to the node that owns the row's token.
func tokenAware(session *gocql.Session) {
	one := connect(keyspace + "_one")
	defer one.Close()
	sorted, owners := ring(one)
	hits := 0
	for n := 0; n < 300; n++ {
		var seen where
		key := fmt.Sprintf("key %d", n)
		insert := one.Query("INSERT INTO placed (a, b, v) VALUES (?, ?, ?)", key, n, n)
		must(insert.Consistency(gocql.One).Observer(&seen).Exec(), "insert")
		var token int64
		read := one.Query("SELECT token(a, b) FROM placed WHERE a = ? AND b = ?", key, n)
		must(read.Consistency(gocql.One).Scan(&token), "token")
		at := sort.Search(len(sorted), func(i int) bool { return sorted[i] >= token })
		if owners[sorted[at%len(sorted)]] == seen.address {
			hits++
		}
	}
	check(hits >= 297, "%d of 300 writes reached the owner", hits)
}

// kinds: values of Go's types are written by prepared statements and read back; unset leaves a column alone.
func kinds(session *gocql.Session) {
	exact, _ := new(inf.Dec).SetString("-12.340")
	huge, _ := new(big.Int).SetString("-123456789012345678901234567890", 10)
	at := time.Unix(1700000000, 123000000).UTC()
	id, made := gocql.MustRandomUUID(), gocql.TimeUUID()
	must(session.Query("INSERT INTO kinds (k, big, bin, yes, exact, wide, slim, addr, tiny, words, counts, at, id, made, huge) "+
		"VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
		1, int64(-1)<<63, []byte{0, 255}, true, exact, 1.5e300, float32(-0.25), "2001:db8::1", int8(-128),
		[]string{"a", "", "ü"}, map[string]int{"one": 1, "two": 2}, at, id, made, huge).Exec(), "insert")
	must(session.Query("INSERT INTO kinds (k, big, yes) VALUES (?, ?, ?)", 1, gocql.UnsetValue, nil).Exec(), "unset")
	row := map[string]interface{}{}
	must(session.Query("SELECT * FROM kinds WHERE k = ?", 1).MapScan(row), "select")
	check(row["big"] == int64(-1)<<63, "bigint is %v", row["big"])
	check(bytes.Equal(row["bin"].([]byte), []byte{0, 255}), "blob is %v", row["bin"])
	check(row["yes"] == false, "the boolean was set to null, but is %v", row["yes"])
	check(row["exact"].(*inf.Dec).String() == "-12.340", "decimal is %v", row["exact"])
	check(row["wide"] == 1.5e300 && row["slim"] == float32(-0.25), "floats are %v, %v", row["wide"], row["slim"])
	check(row["tiny"] == int8(-128), "tinyint is %v", row["tiny"])
	check(fmt.Sprint(row["addr"]) == "2001:db8::1", "inet is %v", row["addr"])
	check(fmt.Sprint(row["words"]) == "[a  ü]", "list is %v", row["words"])
	check(fmt.Sprint(row["counts"]) == "map[one:1 two:2]", "map is %v", row["counts"])
	check(row["at"].(time.Time).Equal(at), "timestamp is %v", row["at"])
	check(row["id"] == id && row["made"] == made, "uuids are %v, %v", row["id"], row["made"])
	check(row["huge"].(*big.Int).Cmp(huge) == 0, "varint is %v", row["huge"])
}

// batches: unlogged over partitions, logged in one; then pages of both, and pages from a saved state.
func batches(session *gocql.Session) {
	for start := 0; start < 500; start += 50 {
		batch := session.NewBatch(gocql.UnloggedBatch)
		for n := start; n < start+50; n++ {
			batch.Query("INSERT INTO rows (k, c, v) VALUES (?, ?, ?)", n%5, n, fmt.Sprint(n))
		}
		must(session.ExecuteBatch(batch), "unlogged batch")
	}
	batch := session.NewBatch(gocql.LoggedBatch)
	for n := 0; n < 20; n++ {
		batch.Query("INSERT INTO rows (k, c, v) VALUES (?, ?, ?)", 77, n, "logged")
	}
	must(session.ExecuteBatch(batch), "logged batch")
	var count int
	must(session.Query("SELECT count(*) FROM rows WHERE k = 77").Scan(&count), "count")
	check(count == 20, "the logged batch left %d rows", count)
}

// conditional: what ScanCAS and MapScanCAS read of the answers, alone and in a batch, and a read at SERIAL.
func conditional(session *gocql.Session) {
	insert := func(v string) (bool, map[string]interface{}) {
		row := map[string]interface{}{}
		query := session.Query("INSERT INTO rows (k, c, v) VALUES (?, ?, ?) IF NOT EXISTS", 1001, 1, v)
		applied, err := query.SerialConsistency(gocql.LocalSerial).MapScanCAS(row)
		must(err, "INSERT IF NOT EXISTS")
		return applied, row
	}
	applied, _ := insert("first")
	check(applied, "the first INSERT was not applied")
	applied, row := insert("second")
	check(!applied && row["v"] == "first", "the second INSERT: %v, %v", applied, row)
	var before string
	applied, err := session.Query("UPDATE rows SET v = ? WHERE k = ? AND c = ? IF v = ?", "third", 1001, 1, "other").ScanCAS(&before)
	must(err, "UPDATE IF")
	check(!applied && before == "first", "the UPDATE: %v, %q", applied, before)
	batch := session.NewBatch(gocql.LoggedBatch)
	batch.Query("UPDATE rows SET v = ? WHERE k = ? AND c = ? IF v = ?", "fourth", 1001, 1, "first")
	batch.Query("INSERT INTO rows (k, c, v) VALUES (?, ?, ?) IF NOT EXISTS", 1001, 2, "beside it")
	applied, iter, err := session.MapExecuteBatchCAS(batch, map[string]interface{}{})
	must(err, "batch with conditions")
	must(iter.Close(), "rows of the batch")
	check(applied, "the batch was not applied")
	var count int
	read := session.Query("SELECT count(*) FROM rows WHERE k = ?", 1001).Consistency(gocql.Consistency(gocql.Serial))
	must(read.Scan(&count), "read at SERIAL")
	check(count == 2, "%d rows, of two", count)
}

func pages(session *gocql.Session) {
	iter := session.Query("SELECT c FROM rows WHERE k = ?", 3).PageSize(7).Iter()
	var c int
	var found []int
	for iter.Scan(&c) {
		found = append(found, c)
	}
	must(iter.Close(), "pages of a partition")
	check(len(found) == 100 && found[0] == 498 && sort.SliceIsSorted(found, func(i, j int) bool { return found[i] > found[j] }),
		"descending rows of a partition: %v", found)

	seen := map[[2]int]bool{}
	var state []byte
	for turn := 0; turn < 100; turn++ {
		other := session
		if turn%10 == 0 {
			other = connect(keyspace)
		}
		iter := other.Query("SELECT k, c FROM rows").PageSize(37).PageState(state).Iter()
		check(iter.NumRows() <= 37, "a page of 37 has %d rows", iter.NumRows())
		state = append([]byte(nil), iter.PageState()...)
		var k, c int
		for n := iter.NumRows(); n > 0 && iter.Scan(&k, &c); n-- {
			check(!seen[[2]int{k, c}], "row %d, %d came twice", k, c)
			seen[[2]int{k, c}] = true
		}
		if other != session {
			must(iter.Close(), "page")
			other.Close()
		}
		if len(state) == 0 {
			break
		}
	}
	check(len(seen) == 520 && len(state) == 0, "pages from saved states had %d rows of 520", len(seen))
}

// mistakes have the types that gocql knows, and the session serves on.
func mistakes(session *gocql.Session) {
	for statement, wanted := range map[string]int{
		"SELEC nonsense":                                               0x2000,
		"SELECT * FROM nothing":                                        0x2200,
		"SELECT nothing FROM rows":                                     0x2200,
		"SELECT * FROM rows WHERE v = 'a'":                             0x2200,
		"INSERT INTO rows (k, v) VALUES (1, '')":                       0x2200,
		"UPDATE rows SET v = '' WHERE k IN (1, 2) AND c = 1 IF EXISTS": 0x2200,
		"UPDATE counted SET n = 1 WHERE k = 1":                         0x2200,
		"CREATE INDEX ON rows (v)":                                     0x2200,
		"CREATE KEYSPACE " + keyspace + "_odd WITH replication = {'class': 'NoSuchStrategy'}":               0x2300,
		"CREATE TABLE IF NOT EXISTS rows (k int PRIMARY KEY) WITH compaction = {'class': 'NoSuchStrategy'}": 0x2300,
	} {
		found := code(session, statement)
		check(found == wanted, "%s: code %#x, not %#x", statement, found, wanted)
	}
	err := session.Query("CREATE TABLE rows (k int PRIMARY KEY)").Exec()
	var exists *gocql.RequestErrAlreadyExists
	check(errors.As(err, &exists) && exists.Table == "rows", "table that is there: %v", err)
}

func nodes(verb string, number int) {
	command := exec.Command(os.Getenv("EXT_NODES"), verb, strconv.Itoa(number))
	if text, err := command.CombinedOutput(); err != nil {
		panic(fmt.Sprintf("%s node %d: %v %s", verb, number, err, text))
	}
}

// killed: no error while a node is killed and comes back, and whatever was acknowledged is read afterwards.
func killed(session *gocql.Session) {
	const victim = 2
	var acknowledged int64
	var failures sync.Map
	var writers sync.WaitGroup
	stop := make(chan struct{})
	written := make([][]int, 4)
	for w := range written {
		writers.Add(1)
		go func(w int) {
			defer writers.Done()
			for n := w; ; n += len(written) {
				select {
				case <-stop:
					return
				default:
				}
				insert := session.Query("INSERT INTO load (k, v) VALUES (?, ?)", n, fmt.Sprint(n)).Idempotent(true)
				if err := insert.Exec(); err != nil {
					failures.Store(n, err)
					continue
				}
				written[w] = append(written[w], n)
				atomic.AddInt64(&acknowledged, 1)
			}
		}(w)
	}
	more := func(count int64) {
		goal := atomic.LoadInt64(&acknowledged) + count
		eventually("more writes", func() bool { return atomic.LoadInt64(&acknowledged) >= goal })
	}
	none := func() {
		failures.Range(func(key, err interface{}) bool {
			panic(fmt.Sprintf("key %v: %v", key, err))
		})
	}
	more(100)
	nodes("kill", victim)
	more(300)
	eventually("Unavailable at ALL", func() bool {
		err := session.Query("SELECT v FROM load WHERE k = 0").Consistency(gocql.All).RetryPolicy(nil).Exec()
		var unavailable *gocql.RequestErrUnavailable
		return errors.As(err, &unavailable) && unavailable.Required == 3 && unavailable.Alive == 2
	})
	nodes("start", victim)
	eventually("ALL again", func() bool {
		return session.Query("INSERT INTO load (k, v) VALUES (-1, 'all')").Consistency(gocql.All).Exec() == nil
	})
	more(200)
	close(stop)
	writers.Wait()
	none()
	keys := make(chan int)
	var readers sync.WaitGroup
	for r := 0; r < 16; r++ {
		readers.Add(1)
		go func() {
			defer readers.Done()
			for key := range keys {
				var value string
				err := session.Query("SELECT v FROM load WHERE k = ?", key).Scan(&value)
				if err != nil || value != fmt.Sprint(key) {
					failures.Store(key, fmt.Errorf("acknowledged, but read as '%s': %v", value, err))
				}
			}
		}()
	}
	for _, mine := range written {
		for _, key := range mine {
			keys <- key
		}
	}
	close(keys)
	readers.Wait()
	none()
}

func main() {
	passed := 0
	tests := 0
	try := func(name string, test func()) bool {
		tests++
		right := run(name, test)
		if right {
			passed++
		}
		return right
	}
	if try("set up", setUp) {
		session := connect(keyspace)
		for _, test := range []struct {
			name string
			run  func(*gocql.Session)
		}{
			{"topology", topology},
			{"token-aware writes reach the owner", tokenAware},
			{"schema agreement within a second", agreed},
			{"the driver's model of the schema", metadata},
			{"values of all kinds", kinds},
			{"elements of collections", elements},
			{"counters", counters},
			{"timestamps and TTL", timestamps},
			{"batches", batches},
			{"a logged batch over partitions", logged},
			{"slices and groups", slices},
			{"pages", pages},
			{"many requests", many},
			{"conditional writes", conditional},
			{"a table that changes", altered},
			{"traces", tracing},
			{"mistakes", mistakes},
			{"killed node", killed},
		} {
			test := test
			try(test.name, func() { test.run(session) })
		}
		session.Close()
	}
	fmt.Printf("%d of %d passed\n", passed, tests)
	if passed != tests {
		os.Exit(1)
	}
}
