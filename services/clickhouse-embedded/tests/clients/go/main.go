// Asks a server in the ways of clickhouse-go over HTTP, and ends with 1 at the first wrong answer.
package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
)

var methods = []clickhouse.CompressionMethod{
	clickhouse.CompressionNone,
	clickhouse.CompressionLZ4,
	clickhouse.CompressionZSTD,
	clickhouse.CompressionGZIP,
	clickhouse.CompressionDeflate,
	clickhouse.CompressionBrotli,
}

func check(what string, ok bool, got ...any) {
	if !ok {
		fmt.Fprintln(os.Stderr, append([]any{what + ":"}, got...)...)
		os.Exit(1)
	}
}

func must(what string, err error) { check(what, err == nil, err) }

func options(address string, method clickhouse.CompressionMethod) *clickhouse.Options {
	return &clickhouse.Options{
		Protocol:    clickhouse.HTTP,
		Addr:        []string{address},
		Auth:        clickhouse.Auth{Database: "default", Username: "default", Password: "admin"},
		Compression: &clickhouse.Compression{Method: method},
		DialTimeout: 5 * time.Second,
		ReadTimeout: 60 * time.Second,
	}
}

func main() {
	address := os.Args[1]
	for _, method := range methods {
		name := method.String()
		conn, err := clickhouse.Open(options(address, method))
		must(name+" open", err)
		server(name, conn)
		types(name, conn)
		batch(name, conn)
		failures(name, conn)
		must(name+" close", conn.Close())
	}
	standard(address)
	session(address)
	queryID(address)
	timeout(address)
	fmt.Println("clickhouse-go: ok")
}

func server(name string, conn driver.Conn) {
	ctx := context.Background()
	must(name+" ping", conn.Ping(ctx))
	version, err := conn.ServerVersion()
	must(name+" version", err)
	check(name+" time zone", version.Timezone.String() == "UTC", version.Timezone)
	check(name+" revision", version.Revision > 54_000 && version.Version.Major >= 26, version)
}

func types(name string, conn driver.Conn) {
	ctx := clickhouse.Context(context.Background(), clickhouse.WithParameters(clickhouse.Parameters{
		"number": "41", "text": "it's {a} \"text\"",
	}))
	var (
		number   uint64
		text     string
		day      time.Time
		nullable *int32
		low      *string
		array    []string
		tuple    []any
		dict     map[string]uint8
		decimal  string
		shown    bool
		address  net.IP
	)
	err := conn.QueryRow(ctx, `SELECT toUInt64({number:UInt64} + 1), {text:String},
		toDateTime64('2026-01-02 03:04:05.678', 3, 'Asia/Tokyo'), CAST(NULL, 'Nullable(Int32)'),
		toLowCardinality(toNullable('low')), ['a', 'b'], tuple(1::UInt8, 'x'), map('k', 7::UInt8),
		toString(1.25::Decimal(9, 2)), true, toIPv4('127.0.0.1') SETTINGS max_threads = 1`).
		Scan(&number, &text, &day, &nullable, &low, &array, &tuple, &dict, &decimal, &shown, &address)
	must(name+" types", err)
	check(name+" number", number == 42, number)
	check(name+" text", text == "it's {a} \"text\"", text)
	check(name+" time", day.UnixMilli() == 1_767_290_645_678, day)
	check(name+" null", nullable == nil && low != nil && *low == "low", nullable, low)
	check(name+" array", slices.Equal(array, []string{"a", "b"}), array)
	check(name+" map", dict["k"] == 7 && len(tuple) == 2, dict, tuple)
	check(name+" decimal", decimal == "1.25" && shown && address.String() == "127.0.0.1", decimal)

	rows, err := conn.Query(ctx, "SELECT number, toString(number) AS s FROM numbers(300000)")
	must(name+" rows", err)
	count := uint64(0)
	for rows.Next() {
		must(name+" scan", rows.Scan(&number, &text))
		check(name+" row", number == count && text == fmt.Sprint(count), number, text)
		count++
	}
	must(name+" rows", rows.Err())
	check(name+" count", count == 300_000, count)
	columns := rows.ColumnTypes()
	check(name+" columns", columns[1].Name() == "s" && columns[1].DatabaseTypeName() == "String")

	rows, err = conn.Query(ctx, "SHOW DATABASES")
	must(name+" show", err)
	databases := []string{}
	for rows.Next() {
		must(name+" show", rows.Scan(&text))
		databases = append(databases, text)
	}
	check(name+" databases", slices.Contains(databases, "default"), databases)
	rows, err = conn.Query(ctx, "SELECT 1 WHERE 0")
	must(name+" empty", err)
	check(name+" empty", !rows.Next() && rows.Err() == nil, rows.Err())
}

func batch(name string, conn driver.Conn) {
	ctx := context.Background()
	must(name+" drop", conn.Exec(ctx, "DROP TABLE IF EXISTS go_batch"))
	must(name+" create", conn.Exec(ctx, `CREATE TABLE go_batch (id UInt64, name LowCardinality(String),
		icao24 LowCardinality(Nullable(String)), at DateTime64(3, 'UTC'), track Nullable(Float32),
		tags Array(String)) ENGINE = MergeTree ORDER BY id
		SETTINGS non_replicated_deduplication_window = 10`))
	insert := func(rows int) {
		token := clickhouse.Settings{
			"insert_deduplication_token": "t", "async_insert": 0, "wait_for_async_insert": 1,
		}
		with := clickhouse.Context(ctx, clickhouse.WithSettings(token))
		batch, err := conn.PrepareBatch(with, "INSERT INTO go_batch (id, name, icao24, at, track, tags)")
		must(name+" prepare", err)
		code, track := "4ca123", float32(90.5)
		for row := range rows {
			var icao24 *string
			if row%2 == 0 {
				icao24 = &code
			}
			err := batch.Append(uint64(row), "UAE", icao24, time.UnixMilli(1_767_225_600_001), &track,
				[]string{"a", "b;\n\nDROP TABLE go_batch"})
			must(name+" append", err)
		}
		must(name+" send", batch.Send())
	}
	insert(20_000)
	insert(20_000)
	var count, sum, codes uint64
	var at time.Time
	err := conn.QueryRow(ctx, `SELECT count(), sum(id), countIf(icao24 = '4ca123'), max(at)
		FROM go_batch WHERE track = 90.5 AND length(tags) = 2`).Scan(&count, &sum, &codes, &at)
	must(name+" counts", err)
	check(name+" counts", count == 20_000 && sum == 199_990_000 && codes == 10_000, count, sum, codes)
	check(name+" time", at.UnixMilli() == 1_767_225_600_001, at)
	must(name+" async", conn.AsyncInsert(ctx, "INSERT INTO go_batch (id) VALUES (99999)", true))
	must(name+" async", conn.QueryRow(ctx, "SELECT max(id) FROM go_batch").Scan(&count))
	check(name+" async", count == 99_999, count)
}

func failures(name string, conn driver.Conn) {
	var exception *clickhouse.Exception
	err := conn.Exec(context.Background(), "SELECT * FROM nowhere")
	check(name+" unknown table", err != nil && strings.Contains(err.Error(), "60"), err)
	if errors.As(err, &exception) {
		check(name+" code", exception.Code == 60, exception)
	}
	// An error behind rows that are already on their way.
	rows, err := conn.Query(context.Background(),
		"SELECT toString(throwIf(number = 900000)), randomString(100) FROM numbers(1000000)")
	count := 0
	if err == nil {
		for rows.Next() {
			count++
		}
		err = rows.Err()
	}
	check(name+" late error", err != nil && count < 1_000_000, count, err)
}

func standard(address string) {
	db := clickhouse.OpenDB(options(address, clickhouse.CompressionLZ4))
	defer db.Close()
	must("sql ping", db.Ping())
	var sum int64
	must("sql query", db.QueryRow("SELECT toInt64(? + ?)", 40, 2).Scan(&sum))
	check("sql sum", sum == 42, sum)
	tx, err := db.Begin()
	must("sql begin", err)
	statement, err := tx.Prepare("INSERT INTO go_batch (id, name)")
	must("sql prepare", err)
	for id := range 10 {
		_, err := statement.Exec(uint64(200_000+id), "sql")
		must("sql exec", err)
	}
	must("sql commit", tx.Commit())
	must("sql count", db.QueryRow("SELECT toInt64(count()) FROM go_batch WHERE name = 'sql'").Scan(&sum))
	check("sql count", sum == 10, sum)
	check("sql no rows", errors.Is(db.QueryRow("SELECT 1 WHERE 0").Scan(&sum), sql.ErrNoRows))
}

func session(address string) {
	with := options(address, clickhouse.CompressionLZ4)
	with.Settings = clickhouse.Settings{"session_id": "go", "session_timeout": 60}
	with.MaxOpenConns = 1
	conn, err := clickhouse.Open(with)
	must("session open", err)
	defer conn.Close()
	ctx := context.Background()
	must("temporary table", conn.Exec(ctx, "CREATE TEMPORARY TABLE go_session (a UInt8)"))
	batch, err := conn.PrepareBatch(ctx, "INSERT INTO go_session")
	must("session prepare", err)
	must("session append", batch.Append(uint8(7)))
	must("session send", batch.Send())
	var a uint8
	must("session select", conn.QueryRow(ctx, "SELECT a FROM go_session").Scan(&a))
	check("session", a == 7, a)
}

func queryID(address string) {
	conn, err := clickhouse.Open(options(address, clickhouse.CompressionZSTD))
	must("id open", err)
	defer conn.Close()
	ctx := clickhouse.Context(context.Background(), clickhouse.WithQueryID("go-query"))
	var one uint8
	must("id", conn.QueryRow(ctx, "SELECT 1").Scan(&one))
	must("flush", conn.Exec(context.Background(), "SYSTEM FLUSH LOGS"))
	var agent string
	must("log", conn.QueryRow(context.Background(),
		"SELECT http_user_agent FROM system.query_log WHERE query_id = 'go-query'").Scan(&agent))
	check("agent", strings.Contains(agent, "clickhouse-go"), agent)
}

func timeout(address string) {
	conn, err := clickhouse.Open(options(address, clickhouse.CompressionNone))
	must("timeout open", err)
	defer conn.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 500*time.Millisecond)
	defer cancel()
	err = conn.QueryRow(ctx, "SELECT count() FROM numbers(100000000000000) WHERE sipHash64(number) = 1").Err()
	check("timeout", err != nil, err)
	var running uint64
	for range 100 {
		must("processes", conn.QueryRow(context.Background(),
			"SELECT count() FROM system.processes WHERE query LIKE '%sipHash64%'").Scan(&running))
		if running == 1 {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	check("the query runs on", false, running)
}
