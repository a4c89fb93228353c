// RUN: tinymlir-opt %s --split-input-file --verify-diagnostics --tiny-lower-requantize -o /dev/null

// The range of multiplier and shift must be known: arguments have none.
func.func @f(%acc: i32, %m: i32, %s: i32) -> i8 {
  // expected-error@+1 {{expects multiplier and shift to be constants or read from a constant table}}
  %q = "tiny.requantize"(%acc, %m, %s) {zero_point = 0 : i32, min = -128 : i32, max = 127 : i32, rounding = "nearest_up"} : (i32, i32, i32) -> i8
  return %q : i8
}

// -----

// A buffer may hold anything.
func.func @f(%acc: i32, %i: index, %shifts: memref<2xi32>) -> i8 {
  %m = arith.constant 1073741824 : i32
  %s = memref.load %shifts[%i] : memref<2xi32>
  // expected-error@+1 {{expects multiplier and shift to be constants or read from a constant table}}
  %q = "tiny.requantize"(%acc, %m, %s) {zero_point = 0 : i32, min = -128 : i32, max = 127 : i32, rounding = "float32"} : (i32, i32, i32) -> i8
  return %q : i8
}

// -----

// So may a global that is not constant.
memref.global "private" @shifts : memref<2xi32> = dense<[40, 41]>
func.func @f(%acc: i32, %i: index) -> i8 {
  %m = arith.constant 1073741824 : i32
  %shifts = memref.get_global @shifts : memref<2xi32>
  %s = memref.load %shifts[%i] : memref<2xi32>
  // expected-error@+1 {{expects multiplier and shift to be constants or read from a constant table}}
  %q = "tiny.requantize"(%acc, %m, %s) {zero_point = 0 : i32, min = -128 : i32, max = 127 : i32, rounding = "nearest_even"} : (i32, i32, i32) -> i8
  return %q : i8
}

// -----

// So may one that is defined elsewhere.
memref.global "private" constant @shifts : memref<2xi32>
func.func @f(%acc: i32, %i: index) -> i8 {
  %m = arith.constant 1073741824 : i32
  %shifts = memref.get_global @shifts : memref<2xi32>
  %s = memref.load %shifts[%i] : memref<2xi32>
  // expected-error@+1 {{expects multiplier and shift to be constants or read from a constant table}}
  %q = "tiny.requantize"(%acc, %m, %s) {zero_point = 0 : i32, min = -128 : i32, max = 127 : i32, rounding = "nearest_even"} : (i32, i32, i32) -> i8
  return %q : i8
}

// -----

// A small shift asks for a multiplier without leading zeros.
memref.global "private" constant @multipliers : memref<2xi32> = dense<[1073741824, 1073741823]>
func.func @f(%acc: i32, %i: index) -> i8 {
  %s = arith.constant 32 : i32
  %multipliers = memref.get_global @multipliers : memref<2xi32>
  %m = memref.load %multipliers[%i] : memref<2xi32>
  // expected-error@+1 {{expects a multiplier of at least 2^30 and a shift of at least 3 where a shift is below 33}}
  %q = "tiny.requantize"(%acc, %m, %s) {zero_point = 0 : i32, min = -128 : i32, max = 127 : i32, rounding = "nearest_even"} : (i32, i32, i32) -> i8
  return %q : i8
}

// -----

// A shift below 3 scales by more than 2^27.
func.func @f(%acc: i32) -> i8 {
  %m = arith.constant 1073741824 : i32
  %s = arith.constant 2 : i32
  // expected-error@+1 {{expects a multiplier of at least 2^30 and a shift of at least 3 where a shift is below 33}}
  %q = "tiny.requantize"(%acc, %m, %s) {zero_point = 0 : i32, min = -128 : i32, max = 127 : i32, rounding = "nearest_even"} : (i32, i32, i32) -> i8
  return %q : i8
}
