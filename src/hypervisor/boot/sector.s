# The smallest guest there is: a boot sector that goes all the way to long mode with paging, as every kernel does, says so
# on QEMU's debug port and resets the machine. It shows that firmware, disk, all three modes of a processor and the way
# out of them work.
#
#   as --64 sector.s -o sector.o && objcopy -O binary -j .text sector.o sector.bin
#
# `super::SECTOR` has its bytes; a test assembles them again.

.code16
start:
  cli
  xorw %ax, %ax
  movw %ax, %ds
  movw %ax, %es
  movw %ax, %ss
  # Three empty pages of tables, and one large page that is where it is.
  movw $0x1000, %di
  movw $0x1800, %cx
  cld
  rep stosw
  movw $0x2003, 0x1000
  movw $0x3003, 0x2000
  movw $0x0083, 0x3000
  movl $0x1000, %eax
  movl %eax, %cr3
  movl %cr4, %eax
  orb $0x20, %al
  movl %eax, %cr4
  movl $0xC0000080, %ecx
  rdmsr
  orw $0x100, %ax
  wrmsr
  lgdtl 0x7c00 + pointer - start
  movl %cr0, %eax
  orl $0x80000001, %eax
  movl %eax, %cr0
  ljmpl $8, $(0x7c00 + long - start)

.code64
long:
  movl $(0x7c00 + text - start), %esi
  movl $(end - text), %ecx
  movw $0xe9, %dx
  rep outsb
  # The keyboard controller resets the machine; QEMU ends instead.
  movb $0xfe, %al
  outb %al, $0x64
1:
  hlt
  jmp 1b

text:
  .ascii "a guest ran\n"
end:
.balign 8
gdt:
  .quad 0, 0x00209A0000000000
pointer:
  .word 15
  .long 0x7c00 + gdt - start
