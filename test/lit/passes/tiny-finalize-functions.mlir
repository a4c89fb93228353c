// RUN: tinymlir-opt %s --tiny-finalize-functions | FileCheck %s

// Only layers, which are internal, must stay functions of their own; functions of
// other dialects and globals are not LLVM's business yet.
// CHECK: llvm.func @net_invoke() -> i32 attributes {passthrough = ["nounwind", "no-builtins"]}
llvm.func @net_invoke() -> i32 {
  %c = llvm.mlir.constant(0 : i32) : i32
  llvm.return %c : i32
}
// CHECK: llvm.func internal @net_layer0() attributes {passthrough = ["nounwind", "no-builtins", "noinline"]}
llvm.func internal @net_layer0() {
  llvm.return
}
// CHECK: llvm.mlir.global internal constant @weights(dense<1> : tensor<2xi8>)
// CHECK-SAME: !llvm.array<2 x i8>{{$}}
llvm.mlir.global internal constant @weights(dense<1> : tensor<2xi8>) : !llvm.array<2 x i8>
// CHECK: func.func private @other(){{$}}
func.func private @other()
