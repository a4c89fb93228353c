// RUN: tinymlir-opt %s --split-input-file --verify-diagnostics -o /dev/null

// A result is made in strips.
func.func @f(%x: tensor<1x8x8x4xi8>) -> tensor<1x8x8x4xi8> {
  // expected-error@+1 {{'tiny.fused_stage' op strips must be a positive integer, not 0 : i64}}
  %y = "tiny.fused_stage"() ({
    %b = func.call @layer0(%x) : (tensor<1x8x8x4xi8>) -> tensor<1x8x8x4xi8>
    %t = "tiny.patch_tile"(%b) {columns = 5 : i64, rows = 3 : i64} : (tensor<1x8x8x4xi8>) -> tensor<1x8x8x4xi8>
    %c = func.call @layer1(%t) : (tensor<1x8x8x4xi8>) -> tensor<1x8x8x4xi8>
    "tiny.patch_yield"(%c) : (tensor<1x8x8x4xi8>) -> ()
  }) {strips = 0 : i64} : () -> tensor<1x8x8x4xi8>
  return %y : tensor<1x8x8x4xi8>
}
func.func private @layer0(tensor<1x8x8x4xi8>) -> tensor<1x8x8x4xi8>
func.func private @layer1(tensor<1x8x8x4xi8>) -> tensor<1x8x8x4xi8>

// -----

// A stage takes tensors from around it, not through its block.
func.func @f(%x: tensor<1x8x8x4xi8>) -> tensor<1x8x8x4xi8> {
  // expected-error@+1 {{'tiny.fused_stage' op expects a block without arguments}}
  %y = "tiny.fused_stage"() ({
  ^bb0(%a: index):
    %b = func.call @layer0(%x) : (tensor<1x8x8x4xi8>) -> tensor<1x8x8x4xi8>
    %t = "tiny.patch_tile"(%b) {columns = 5 : i64, rows = 3 : i64} : (tensor<1x8x8x4xi8>) -> tensor<1x8x8x4xi8>
    %c = func.call @layer1(%t) : (tensor<1x8x8x4xi8>) -> tensor<1x8x8x4xi8>
    "tiny.patch_yield"(%c) : (tensor<1x8x8x4xi8>) -> ()
  }) {strips = 2 : i64} : () -> tensor<1x8x8x4xi8>
  return %y : tensor<1x8x8x4xi8>
}
func.func private @layer0(tensor<1x8x8x4xi8>) -> tensor<1x8x8x4xi8>
func.func private @layer1(tensor<1x8x8x4xi8>) -> tensor<1x8x8x4xi8>

// -----

// It ends with its result.
func.func @f(%x: tensor<1x8x8x4xi8>) -> tensor<1x8x8x4xi8> {
  // expected-error@+1 {{'tiny.fused_stage' op expects its block to end in 'tiny.patch_yield'}}
  %y = "tiny.fused_stage"() ({
    %b = func.call @layer0(%x) : (tensor<1x8x8x4xi8>) -> tensor<1x8x8x4xi8>
    %t = "tiny.patch_tile"(%b) {columns = 5 : i64, rows = 3 : i64} : (tensor<1x8x8x4xi8>) -> tensor<1x8x8x4xi8>
    %c = func.call @layer1(%t) : (tensor<1x8x8x4xi8>) -> tensor<1x8x8x4xi8>
    "llvm.unreachable"() : () -> ()
  }) {strips = 2 : i64} : () -> tensor<1x8x8x4xi8>
  return %y : tensor<1x8x8x4xi8>
}
func.func private @layer0(tensor<1x8x8x4xi8>) -> tensor<1x8x8x4xi8>
func.func private @layer1(tensor<1x8x8x4xi8>) -> tensor<1x8x8x4xi8>

// -----

// A tile lies in its tensor.
func.func @f(%x: tensor<1x8x8x4xi8>) -> tensor<1x8x8x4xi8> {
  %y = "tiny.fused_stage"() ({
    %b = func.call @layer0(%x) : (tensor<1x8x8x4xi8>) -> tensor<1x8x8x4xi8>
    // expected-error@+1 {{'tiny.patch_tile' op has 9 rows, more than tensor<1x8x8x4xi8> has}}
    %t = "tiny.patch_tile"(%b) {columns = 5 : i64, rows = 9 : i64} : (tensor<1x8x8x4xi8>) -> tensor<1x8x8x4xi8>
    %c = func.call @layer1(%t) : (tensor<1x8x8x4xi8>) -> tensor<1x8x8x4xi8>
    "tiny.patch_yield"(%c) : (tensor<1x8x8x4xi8>) -> ()
  }) {strips = 2 : i64} : () -> tensor<1x8x8x4xi8>
  return %y : tensor<1x8x8x4xi8>
}
func.func private @layer0(tensor<1x8x8x4xi8>) -> tensor<1x8x8x4xi8>
func.func private @layer1(tensor<1x8x8x4xi8>) -> tensor<1x8x8x4xi8>

// -----

// It has rows.
func.func @f(%x: tensor<1x8x8x4xi8>) -> tensor<1x8x8x4xi8> {
  %y = "tiny.fused_stage"() ({
    %b = func.call @layer0(%x) : (tensor<1x8x8x4xi8>) -> tensor<1x8x8x4xi8>
    // expected-error@+1 {{'tiny.patch_tile' op rows must be a positive integer, not 0 : i64}}
    %t = "tiny.patch_tile"(%b) {columns = 5 : i64, rows = 0 : i64} : (tensor<1x8x8x4xi8>) -> tensor<1x8x8x4xi8>
    %c = func.call @layer1(%t) : (tensor<1x8x8x4xi8>) -> tensor<1x8x8x4xi8>
    "tiny.patch_yield"(%c) : (tensor<1x8x8x4xi8>) -> ()
  }) {strips = 2 : i64} : () -> tensor<1x8x8x4xi8>
  return %y : tensor<1x8x8x4xi8>
}
func.func private @layer0(tensor<1x8x8x4xi8>) -> tensor<1x8x8x4xi8>
func.func private @layer1(tensor<1x8x8x4xi8>) -> tensor<1x8x8x4xi8>

// -----

// A tile is of an image.
func.func @f(%x: tensor<8xi8>) -> tensor<8xi8> {
  // expected-error@+1 {{'tiny.patch_tile' op expects a tensor of rows, columns and channels in a batch, not tensor<8xi8>}}
  %t = "tiny.patch_tile"(%x) {rows = 1 : i64, columns = 1 : i64} : (tensor<8xi8>) -> tensor<8xi8>
  return %t : tensor<8xi8>
}

// -----

// It is its tensor.
func.func @f(%x: tensor<1x8x8x4xi8>) {
  // expected-error@+1 {{'tiny.patch_tile' op gives tensor<1x4x8x4xi8>, but its tensor is tensor<1x8x8x4xi8>}}
  %t = "tiny.patch_tile"(%x) {rows = 1 : i64, columns = 1 : i64} : (tensor<1x8x8x4xi8>) -> tensor<1x4x8x4xi8>
  return
}

// -----

// A stage yields what it gives.
func.func @f(%x: tensor<1x8x8x4xi8>) {
  // expected-error@+1 {{'tiny.fused_stage' op gives tensor<1x4x8x4xi8>, but yields tensor<1x8x8x4xi8>}}
  %y = "tiny.fused_stage"() ({
    "tiny.patch_yield"(%x) : (tensor<1x8x8x4xi8>) -> ()
  }) {strips = 1 : i64} : () -> tensor<1x4x8x4xi8>
  return
}

// -----

// A ring has slots.
func.func @f(%row: index) -> index {
  // expected-error@+1 {{'tiny.ring_slot' op slots must be a positive integer, not 0 : i64}}
  %s = "tiny.ring_slot"(%row) {slots = 0 : i64} : (index) -> index
  return %s : index
}

// -----

// A strip makes a column of what it has a cache for.
func.func @main(%x: tensor<1x6x4x1xi8>) -> tensor<1x4x2x1xi8> {
  %y = "tiny.fused_stage"() ({
    %a = func.call @peak(%x) : (tensor<1x6x4x1xi8>) -> tensor<1x6x4x1xi8>
    // expected-error@+1 {{'tiny.patch_tile' op caches 3 of 3 columns: a strip makes at least one}}
    %t = "tiny.patch_tile"(%a) {rows = 3 : i64, columns = 3 : i64, tiny.cached_columns = 3 : i64} : (tensor<1x6x4x1xi8>) -> tensor<1x6x4x1xi8>
    %c = func.call @window(%t) : (tensor<1x6x4x1xi8>) -> tensor<1x4x2x1xi8>
    "tiny.patch_yield"(%c) : (tensor<1x4x2x1xi8>) -> ()
  }) {strips = 2 : i64} : () -> tensor<1x4x2x1xi8>
  return %y : tensor<1x4x2x1xi8>
}
func.func private @peak(tensor<1x6x4x1xi8>) -> tensor<1x6x4x1xi8>
func.func private @window(tensor<1x6x4x1xi8>) -> tensor<1x4x2x1xi8>

// -----

// It keeps some.
func.func @main(%x: tensor<1x6x4x1xi8>) -> tensor<1x4x2x1xi8> {
  %y = "tiny.fused_stage"() ({
    %a = func.call @peak(%x) : (tensor<1x6x4x1xi8>) -> tensor<1x6x4x1xi8>
    // expected-error@+1 {{'tiny.patch_tile' op tiny.cached_columns must be a positive integer, not 0 : i64}}
    %t = "tiny.patch_tile"(%a) {rows = 3 : i64, columns = 3 : i64, tiny.cached_columns = 0 : i64} : (tensor<1x6x4x1xi8>) -> tensor<1x6x4x1xi8>
    %c = func.call @window(%t) : (tensor<1x6x4x1xi8>) -> tensor<1x4x2x1xi8>
    "tiny.patch_yield"(%c) : (tensor<1x4x2x1xi8>) -> ()
  }) {strips = 2 : i64} : () -> tensor<1x4x2x1xi8>
  return %y : tensor<1x4x2x1xi8>
}
func.func private @peak(tensor<1x6x4x1xi8>) -> tensor<1x6x4x1xi8>
func.func private @window(tensor<1x6x4x1xi8>) -> tensor<1x4x2x1xi8>

// -----

// Strips keep columns for one another.
func.func @main(%x: tensor<1x6x4x1xi8>) -> tensor<1x4x2x1xi8> {
  // expected-error@+1 {{'tiny.fused_stage' op caches columns for a next strip, but has one}}
  %y = "tiny.fused_stage"() ({
    %a = func.call @peak(%x) : (tensor<1x6x4x1xi8>) -> tensor<1x6x4x1xi8>
    %t = "tiny.patch_tile"(%a) {rows = 3 : i64, columns = 4 : i64, tiny.cached_columns = 2 : i64} : (tensor<1x6x4x1xi8>) -> tensor<1x6x4x1xi8>
    %c = func.call @window(%t) : (tensor<1x6x4x1xi8>) -> tensor<1x4x2x1xi8>
    "tiny.patch_yield"(%c) : (tensor<1x4x2x1xi8>) -> ()
  }) {strips = 1 : i64} : () -> tensor<1x4x2x1xi8>
  return %y : tensor<1x4x2x1xi8>
}
func.func private @peak(tensor<1x6x4x1xi8>) -> tensor<1x6x4x1xi8>
func.func private @window(tensor<1x6x4x1xi8>) -> tensor<1x4x2x1xi8>
