// RUN: tinymlir-opt %s --verify-diagnostics --split-input-file

func.func @third(%word: i32) -> i32 {
  // expected-error@+1 {{'tiny.extend_bytes' op first must be 0 or 1 of type i32, not 2}}
  %w = "tiny.extend_bytes"(%word) {first = 2 : i32} : (i32) -> i32
  return %w : i32
}

// -----

func.func @wide(%word: i32) -> i32 {
  // expected-error@+1 {{'tiny.extend_bytes' op first must be 0 or 1 of type i32, not 1 : i64}}
  %w = "tiny.extend_bytes"(%word) {first = 1 : i64} : (i32) -> i32
  return %w : i32
}

// -----

func.func @short(%acc: i32, %x: vector<16xi8>, %w: vector<8xi8>) -> i32 {
  // expected-error@+1 {{expected 'vector<16xi8>' but got 'vector<8xi8>'}}
  %s = "tiny.dot"(%acc, %x, %w) : (i32, vector<16xi8>, vector<8xi8>) -> i32
  return %s : i32
}
