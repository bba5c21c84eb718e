/** What a check of this computer says, from a language's groups of the catalogue. */
interface Catalogue<Sentences, Names, OfPage> {
  readonly doctor: Sentences;
  readonly doctor_name: Names;
  readonly page_check: OfPage;
}
type Words = Readonly<
  Record<
    | "works"
    | "fails"
    | "note"
    | `path_${"direct" | "either" | "relayed" | "some" | "network" | "none"}`,
    string
  >
>;

export const checkOf = <S extends Words, N, P>(from: Catalogue<S, N, P>) => ({
  verdicts: { works: from.doctor.works, fails: from.doctor.fails, note: from.doctor.note },
  names: from.doctor_name,
  sentences: { ...from.doctor, ...from.page_check },
  paths: {
    direct: from.doctor.path_direct,
    either: from.doctor.path_either,
    relayed: from.doctor.path_relayed,
    some: from.doctor.path_some,
    network: from.doctor.path_network,
    none: from.doctor.path_none,
  },
});
