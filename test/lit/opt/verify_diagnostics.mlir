// Every form of an expectation.
// RUN: tinymlir-opt %s --load-pass-plugin=%S/inputs/plugin.py --test-misbehave --verify-diagnostics --split-input-file -o /dev/null

// On the line itself, and on the line of a note.
func.func @f(%a: i32) { // expected-note {{prior use here}}
  %x = arith.addi %a, %a : i64 // expected-error {{expects different type}}
  return
}

// -----

// By distance; several for one line.
// expected-note@+1 {{prior use here}}
func.func @f(%a: i32) {
  // expected-error@+1 {{expects different type than prior uses}}
  %x = arith.addi %a, %a : i64
  return
}

// -----

func.func @f(%a: i32) {
  %x = arith.addi %a, %a : i64
  // expected-error@-1 {{'i64' vs 'i32'}}
  // expected-note@-3 {{prior use here}}
  return
}

// -----

// Above and below skip lines that hold expectations themselves.
// expected-note @below {{prior}}
func.func @f(%a: i32) {
  %x = arith.addi %a, %a : i64
  // expected-error-re @above {{'i{{[0-9]+}}' vs 'i{{3|4}}2'}}
  return
}

// -----

// A Python pass's failure.
func.func @f(%a: i32) -> i32 {
  // expected-error@below {{no products here}}
  %x = arith.muli %a, %a : i32
  return %x : i32
}

// -----

// Nothing expected and nothing reported.
func.func @f() {
  return
}
