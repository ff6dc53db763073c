package coldjson

import (
	"encoding/json"
	"math"
	"net/netip"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

type embedded struct {
	Major int64 `json:"major"`
}

// sample has a field of each kind that records and specifications have.
type sample struct {
	embedded
	Name    string            `json:"name"`
	Count   int8              `json:"count,omitempty"`
	Big     uint64            `json:"big"`
	Share   float64           `json:"share,omitzero"`
	Yes     bool              `json:"yes"`
	Maybe   *bool             `json:"maybe,omitempty"`
	List    []string          `json:"list"`
	Structs []embedded        `json:"structs,omitempty"`
	Map     map[string]string `json:"map,omitempty"`
	Deep    map[string]*sample
	When    time.Time  `json:"when,omitzero"`
	Addr    netip.Addr `json:"addr,omitzero"`
	Raw     json.RawMessage
	Any     any    `json:"any,omitempty"`
	Bytes   []byte `json:"bytes,omitempty"`
	Skipped string `json:"-"`
	hidden  string //lint:ignore U1000 not written, not read
}

var documents = []string{
	`{"name":"a","count":-3,"big":18446744073709551615,"share":1.5e3,"yes":true,"maybe":false,"list":["x","y"],"major":7}`,
	`{ "NAME" : "folded" , "List" : [ ] , "map" : { } , "Deep":{"a":{"name":"b","structs":[{"major":1},{}]},"n":null} }`,
	`{"list":null,"maybe":null,"name":null,"map":{"k":"v","k":"w"},"structs":[{"major":1,"major":2}]}`,
	`{"name":"\u00e9\n\"\\\/\t\b\f\r ü 😀","any":{"x":[1,2.5,null,"s",{"y":false}]}}`,
	`{"name":"\ud83d\ude00 \ud800","Raw":{"as": [it, is]}}`,
	`{"Raw": {"as": ["it", "is", 1e5]} ,"bytes":"aGVsbG8="}`,
	`{"when":"2026-11-25T06:00:00.5Z","addr":"10.1.2.3"}`, `{"when":"yesterday"}`, `{"addr":"10.1.2"}`,
	`{"unknown":{"a":[1,{"b":"}"}],"c":"\""},"name":"n"}`, `{"unknown":[1,],"name":"n"}`, `{"unknown":01}`,
	`{"name":"twice","name":"again","deep":{"a":null},"Deep":{"b":null}}`,
	`{"count":300}`, `{"count":1.0}`, `{"count":1e1}`, `{"count":"1"}`, `{"big":-1}`, `{"big":-0}`, `{"yes":1}`, `{"name":3}`, `{"share":1e999}`,
	`{"list":[1]}`, `{"list":{}}`, `{"structs":[1]}`, `{"map":{"a":1}}`,
	`{"name":"a"} x`, `{"name":"a"`, `{"name":"a",}`, `{name:"a"}`, `{"list":["a",]}`, `{"list":["a" "b"]}`, `{"name":"a` + "\n" + `"}`, `{"name":"` + "\xff" + `"}`,
	`null`, `[]`, `"s"`, `1`, ``, ` `, `{}`, ` {} `, `nullx`, `{"yes":truex}`, `{"name":"\u12"}`, `{"name":"\x"}`, `{"count":-}`, `{"share":1.}`,
	strings.Repeat(`{"Deep":{"a":`, 80) + `{}` + strings.Repeat(`}}`, 80),
	strings.Repeat(`[`, 200) + strings.Repeat(`]`, 200),
	`{"unknown":` + strings.Repeat(`[`, 20000) + strings.Repeat(`]`, 20000) + `}`,
}

var equal = cmp.Options{cmp.AllowUnexported(sample{}), cmp.Comparer(func(a, b netip.Addr) bool { return a == b })}

// TestAsEncodingJSON: the same values, and the same errors.
func TestAsEncodingJSON(t *testing.T) {
	for _, doc := range documents {
		compare[sample](t, []byte(doc))
	}
}

func compare[T any](t *testing.T, doc []byte) {
	t.Helper()
	var got, want T
	gotErr, wantErr := Unmarshal(doc, &got), json.Unmarshal(doc, &want)
	if (gotErr == nil) != (wantErr == nil) || gotErr != nil && gotErr.Error() != wantErr.Error() {
		t.Errorf("%.200s: error %v, want %v", doc, gotErr, wantErr)
	}
	if d := cmp.Diff(want, got, equal); d != "" {
		t.Errorf("%.200s: %s", doc, d)
	}
}

// TestIntoValues: what is not in the document stays, as encoding/json has it.
func TestIntoValues(t *testing.T) {
	yes := true
	for _, doc := range documents {
		made := func() sample {
			return sample{Name: "before", Count: 5, Maybe: &yes, List: []string{"old", "older"}, Map: map[string]string{"old": "1"}}
		}
		got, want := made(), made()
		gotErr, wantErr := Unmarshal([]byte(doc), &got), json.Unmarshal([]byte(doc), &want)
		if (gotErr == nil) != (wantErr == nil) {
			t.Errorf("%.200s: error %v, want %v", doc, gotErr, wantErr)
		}
		if d := cmp.Diff(want, got, equal); gotErr == nil && d != "" {
			t.Errorf("%.200s: %s", doc, d)
		}
		yes = true
	}
}

// TestReadsAlone: an ordinary config.json is not left to encoding/json, which
// would be right and slow.
func TestReadsAlone(t *testing.T) {
	b, err := os.ReadFile("testdata/config.json")
	if err != nil {
		t.Fatal(err)
	}
	var want, got specs.Spec
	if err := json.Unmarshal(b, &want); err != nil {
		t.Fatal(err)
	}
	d := decoder{scanner: scanner{b: b}, types: map[reflect.Type]*shape{}}
	if !d.value(reflect.ValueOf(&got).Elem(), 0) || !d.end() {
		t.Fatalf("left to encoding/json at byte %d: %.40s", d.i, b[d.i:])
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestMarshal(t *testing.T) {
	yes := false
	for _, v := range []sample{
		{},
		{embedded: embedded{5}, Name: "a\"b\\c\n\r\t\x01\xff<é>", Count: -7, Big: math.MaxUint64, Share: 0.1, Yes: true, Maybe: &yes,
			List: []string{}, Structs: []embedded{{1}, {2}}, Map: map[string]string{"k": "v", "": "\u2028"},
			Deep: map[string]*sample{"x": {Name: "y"}, "z": nil}, When: time.Unix(1e9, 5).UTC(), Addr: netip.MustParseAddr("::1")},
		{Any: []any{1.0, "x"}}, {Bytes: []byte("hello")}, {Raw: json.RawMessage(`{"a":1}`)},
	} {
		for name, encode := range map[string]func(any) ([]byte, error){"Marshal": Marshal, "Sparse": Sparse} {
			b, err := encode(&v)
			if err != nil {
				t.Fatal(err)
			}
			standard, err := json.Marshal(&v)
			if err != nil {
				t.Fatal(err)
			}
			var got, want sample
			if err := json.Unmarshal(b, &got); err != nil {
				t.Fatalf("%v in %s", err, b)
			}
			if err := json.Unmarshal(standard, &want); err != nil {
				t.Fatal(err)
			}
			// Sparse leaves out what reads as null
			none := cmp.Comparer(func(a, b json.RawMessage) bool { return string(a)+string(b) == "null" || string(a) == string(b) })
			if d := cmp.Diff(want, got, equal, none); d != "" {
				t.Errorf("%s: %s: %s", name, b, d)
			}
		}
	}
	if _, err := Marshal(math.Inf(1)); err == nil {
		t.Error("infinity has no form in JSON")
	}
}

// TestOddTypes: those that no record of ours has, and a caller's may.
func TestOddTypes(t *testing.T) {
	type odd struct {
		Any      any
		Number   json.Number
		embedded `json:"inner"`
	}
	type filled struct{ Any any }
	for _, doc := range []string{`{"Number":"x"}`, `{"Number":"5"}`, `{"Number":5}`, `{"inner":{"major":3}}`, `{"major":3}`} {
		var got, want odd
		gotErr, wantErr := Unmarshal([]byte(doc), &got), json.Unmarshal([]byte(doc), &want)
		if got != want || (gotErr == nil) != (wantErr == nil) {
			t.Errorf("%s: %+v, %v, want %+v, %v", doc, got, gotErr, want, wantErr)
		}
	}
	got := filled{"before"}
	if err := Unmarshal([]byte(`{"Any":null}`), &got); err != nil || got.Any != nil {
		t.Errorf("null left %v, %v", got.Any, err)
	}
}

func FuzzUnmarshal(f *testing.F) {
	for _, doc := range documents {
		f.Add([]byte(doc))
	}
	if b, err := os.ReadFile("testdata/config.json"); err == nil {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, doc []byte) {
		compare[sample](t, doc)
		compare[specs.Spec](t, doc)
	})
}
