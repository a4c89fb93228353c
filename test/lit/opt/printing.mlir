// How the output is printed.
// RUN: tinymlir-opt %s --mlir-print-op-generic --mlir-elide-elementsattrs-if-larger=2 --mlir-elide-resource-strings-if-larger=8 --allow-unregistered-dialect | FileCheck %s --check-prefix=GENERIC
// RUN: tinymlir-opt %s --mlir-print-debuginfo --mlir-print-local-scope --allow-unregistered-dialect | FileCheck %s --check-prefix=LOCATION
// RUN: tinymlir-opt --mlir-print-debuginfo --mlir-print-local-scope --allow-unregistered-dialect < %s | FileCheck %s --check-prefix=STDIN
// RUN: not tinymlir-opt %s 2>&1 | FileCheck %s --check-prefix=UNREGISTERED

// GENERIC: "func.func"() <{function_type = () -> tensor<4xi8>, sym_name = "f"}>
// GENERIC-NEXT: "arith.constant"() <{value = dense_resource<__elided__> : tensor<4xi8>}>
// GENERIC-NEXT: "unknown.op"()

// LOCATION: arith.constant dense<[1, 2, 3, 4]> : tensor<4xi8> loc("{{.*}}printing.mlir":17:8)
// LOCATION-NEXT: "unknown.op"() {text = "loc(\22-\22:1:2)"} : () -> () loc("{{.*}}printing.mlir":18:3)
// STDIN: arith.constant {{.*}} loc("<stdin>":17:8)

// UNREGISTERED: printing.mlir:18:15: error: operation being parsed with an unregistered dialect
func.func @f() -> tensor<4xi8> {
  %0 = arith.constant dense<[1, 2, 3, 4]> : tensor<4xi8>
  "unknown.op"() {text = "loc(\"-\":1:2)"} : () -> ()
  return %0 : tensor<4xi8>
}
