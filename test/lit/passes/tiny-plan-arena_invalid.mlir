// RUN: tinymlir-opt %s --split-input-file --verify-diagnostics --tiny-plan-arena -o /dev/null

// There is a network.
// expected-error@+1 {{expects a function named @main}}
module {
}

// -----

// It has a body.
// expected-error@+1 {{expects @main to have one block}}
func.func private @main(memref<4xi8>)

// -----

// Every buffer is used.
func.func @main(%x: memref<8xi8>) {
  // expected-error@+1 {{allocates a buffer that nothing uses}}
  %t = memref.alloc() : memref<8xi8>
  return
}

// -----

// Its size is known.
func.func @main(%n: index) {
  // expected-error@+1 {{expects a static shape, and elements that are integers or f32}}
  %t = memref.alloc(%n) : memref<?xi8>
  call @layer0(%t) : (memref<?xi8>) -> ()
  return
}
func.func private @layer0(memref<?xi8>)

// -----

// So is that of its elements.
func.func @main() {
  // expected-error@+1 {{expects a static shape, and elements that are integers or f32}}
  %t = memref.alloc() : memref<8xindex>
  call @layer0(%t) : (memref<8xindex>) -> ()
  return
}
func.func private @layer0(memref<8xindex>)

// -----

// Reshapes are the only views.
func.func @main() {
  %t = memref.alloc() : memref<8xi8>
  // expected-error@+1 {{has no plan for the buffer that 'memref.cast' gives}}
  %v = memref.cast %t : memref<8xi8> to memref<?xi8>
  call @layer0(%v) : (memref<?xi8>) -> ()
  return
}
func.func private @layer0(memref<?xi8>)
