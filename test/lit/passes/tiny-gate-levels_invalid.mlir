// RUN: tinymlir-opt %s --split-input-file --verify-diagnostics --tiny-gate-levels -o /dev/null

// One class has no second best.
// expected-error@+1 {{expects the scores of two classes or more as output}}
func.func @main(%state: memref<1xi32>, %x: memref<8xi8>, %y: memref<1x1xi8>, %arena: memref<8xi8>) {
  return
}

// -----

// Scores of several places are no scores of one sample.
// expected-error@+1 {{expects the scores of two classes or more as output}}
func.func @main(%state: memref<1xi32>, %x: memref<8xi8>, %y: memref<2x4xi8>, %arena: memref<8xi8>) {
  return
}

// -----

// A margin is one of integers.
// expected-error@+1 {{expects the scores of two classes or more as output}}
func.func @main(%state: memref<1xi32>, %x: memref<8xi8>, %y: memref<4xf32>, %arena: memref<8xi8>) {
  return
}

// -----

// These are no levels.
// expected-error@+1 {{expects the scores of two classes or more as output}}
func.func @main(%x: memref<8xi8>, %y: memref<4xi8>, %arena: memref<8xi8>) {
  return
}
